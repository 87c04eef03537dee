// Every kernel header, in the order of kernels.def.
#pragma once
#include "fill.h"
#include "linear.h"
#include "matmul.h"
#include "patch_embed.h"
#include "unary.h"
#include "binary.h"
#include "reduction.h"
