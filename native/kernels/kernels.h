// Every kernel header, in the order of kernels.def.
#pragma once
#include "fill.h"
