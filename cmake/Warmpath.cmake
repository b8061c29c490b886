# warmpath_module(NAME SOURCES ... [DEPS module...] [LIBS third-party...] [TESTS x_test.cc...] [TEST_DEPS ...])
# One static library per folder under src/, and one test binary per module (tests link once).
# LIBS are private on purpose: a third-party header stays inside the module that owns it.

find_package(Threads REQUIRED)
find_package(GTest REQUIRED)

add_library(warmpath_flags INTERFACE)
target_compile_options(warmpath_flags INTERFACE -Wall -Wextra -Wshadow -Wthread-safety -Werror)
target_include_directories(warmpath_flags INTERFACE ${CMAKE_SOURCE_DIR}/src)
target_link_libraries(warmpath_flags INTERFACE Threads::Threads)

# Every program looks beside itself first, so the packed binary carries its libraries along (DT_RPATH: also for theirs).
set(CMAKE_BUILD_RPATH "\$ORIGIN/../lib")
add_link_options(-Wl,--disable-new-dtags)

# All test programs and corpus replayers, without the product's binary: what a sanitizer run builds.
add_custom_target(unit_tests)

# Recordings and vectors the tests read, unpacked once per build tree.
set(WARMPATH_TESTDATA ${CMAKE_BINARY_DIR}/testdata)
file(GLOB WARMPATH_TESTDATA_ARCHIVES CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/data/*.tar.xz)
set(testdata_stamps)
foreach(archive ${WARMPATH_TESTDATA_ARCHIVES})
  get_filename_component(name ${archive} NAME)
  set(stamp ${WARMPATH_TESTDATA}/.${name}.stamp)
  add_custom_command(OUTPUT ${stamp}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${WARMPATH_TESTDATA}
    COMMAND ${CMAKE_COMMAND} -E chdir ${WARMPATH_TESTDATA} ${CMAKE_COMMAND} -E tar xf ${archive}
    COMMAND ${CMAKE_COMMAND} -E touch ${stamp}
    DEPENDS ${archive})
  list(APPEND testdata_stamps ${stamp})
endforeach()
add_custom_target(testdata DEPENDS ${testdata_stamps})

# What the product's binary is optimized from as a whole: objects that hold both code, which tests and tools link, and what ThinLTO reads.
add_library(warmpath_lto INTERFACE)
if(CMAKE_BUILD_TYPE STREQUAL "Release")
  target_compile_options(warmpath_lto INTERFACE -flto=thin -ffat-lto-objects)
  target_link_options(warmpath_lto INTERFACE -flto=thin -Wl,--fat-lto-objects
                      -Wl,--thinlto-cache-dir=${CMAKE_BINARY_DIR}/lto-cache -Wl,--thinlto-cache-policy=cache_size_bytes=1g)
endif()

function(warmpath_module name)
  cmake_parse_arguments(M "" "" "SOURCES;DEPS;LIBS;TESTS;TEST_DEPS" ${ARGN})
  add_library(${name} STATIC ${M_SOURCES})
  target_link_libraries(${name} PUBLIC warmpath_flags ${M_DEPS} PRIVATE ${M_LIBS})
  target_compile_options(${name} PRIVATE $<TARGET_PROPERTY:warmpath_lto,INTERFACE_COMPILE_OPTIONS>)
  if(M_TESTS)
    add_executable(${name}_test ${M_TESTS})
    target_link_libraries(${name}_test PRIVATE ${name} ${M_TEST_DEPS} ${M_LIBS} GTest::gmock GTest::gtest_main)
    target_compile_definitions(${name}_test PRIVATE
      WARMPATH_TESTDATA="${WARMPATH_TESTDATA}" WARMPATH_SOURCE="${CMAKE_SOURCE_DIR}"
      WARMPATH_TOKENIZERS="${CMAKE_SOURCE_DIR}/.deps/tokenizers")
    add_dependencies(${name}_test testdata)
    add_dependencies(unit_tests ${name}_test)
    add_test(NAME ${name} COMMAND ${name}_test)
    set_tests_properties(${name} PROPERTIES TIMEOUT 600)
  endif()
endfunction()

# warmpath_fuzz(NAME DEPS ...): fuzz/NAME_fuzz.cc with corpus fuzz/corpus/NAME. With libFuzzer it fuzzes; otherwise it is linked with
# a main that replays the corpus, so that every test run executes it.
function(warmpath_fuzz name)
  cmake_parse_arguments(F "" "" "DEPS;LIBS" ${ARGN})
  set(target ${name}_fuzz)
  if(WARMPATH_FUZZ)
    add_executable(${target} ${name}_fuzz.cc)
    target_link_options(${target} PRIVATE -fsanitize=fuzzer,address,undefined)
  else()
    add_executable(${target} ${name}_fuzz.cc replay_main.cc)
    add_dependencies(unit_tests ${target})
    add_test(NAME fuzz_${name} COMMAND ${target} ${CMAKE_CURRENT_SOURCE_DIR}/corpus/${name})
    set_tests_properties(fuzz_${name} PROPERTIES TIMEOUT 300)
  endif()
  target_link_libraries(${target} PRIVATE ${F_DEPS} ${F_LIBS})
endfunction()
