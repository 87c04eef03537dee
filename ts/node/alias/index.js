'use strict';
module.exports = require('simmim/tfjs-node');
