{
  # One build description only: native/CMakeLists.txt. This shim lets the gyp-driven tools (node-gyp,
  # prebuildify, npm's default install step) reach it; it compiles nothing itself.
  "targets": [{
    "target_name": "simmim_native",
    "type": "none",
    "actions": [{
      "action_name": "cmake",
      "inputs": ["native/CMakeLists.txt"],
      "outputs": ["<(PRODUCT_DIR)/simmim.node"],
      "action": ["node", "scripts/build-native.mjs"]
    }]
  }]
}
