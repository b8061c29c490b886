# The Rust static library (tokenizers and chat templates behind a C ABI): target `warmpath_rust`.
# cargo decides what to rebuild; the library's time stamp decides what relinks.

if(NOT EXISTS ${CMAKE_SOURCE_DIR}/rust/Cargo.toml)
  return()
endif()
if(DEFINED ENV{CARGO})
  set(WARMPATH_CARGO $ENV{CARGO})
else()
  find_program(WARMPATH_CARGO NAMES cargo cargo-web REQUIRED)
endif()
# Shared by all presets: the library is not sanitized, so one build serves every preset.
set(rust_target ${CMAKE_SOURCE_DIR}/rust/target)
set(rust_library ${rust_target}/release/libwarmpath_rust.a)
file(GLOB_RECURSE rust_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/rust/src/*.rs)
add_custom_command(OUTPUT ${rust_library}
  COMMAND ${CMAKE_COMMAND} -E env CARGO_TARGET_DIR=${rust_target} ${WARMPATH_CARGO} build --release --locked
  WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}/rust
  DEPENDS ${rust_sources} ${CMAKE_SOURCE_DIR}/rust/Cargo.toml ${CMAKE_SOURCE_DIR}/rust/Cargo.lock
  COMMENT "Building the Rust library (about two minutes the first time)"
  USES_TERMINAL VERBATIM)
add_custom_target(warmpath_rust_build DEPENDS ${rust_library})
add_library(warmpath_rust STATIC IMPORTED GLOBAL)
set_target_properties(warmpath_rust PROPERTIES IMPORTED_LOCATION ${rust_library}
  INTERFACE_INCLUDE_DIRECTORIES ${CMAKE_SOURCE_DIR}/rust/include
  INTERFACE_LINK_LIBRARIES "dl;m")
add_dependencies(warmpath_rust warmpath_rust_build)
