cmake_minimum_required(VERSION 3.25)
# Run at every build: writes app/version.h, touching it only when the revision changed.
execute_process(COMMAND git rev-parse --short=7 HEAD WORKING_DIRECTORY ${SOURCE_DIR}
  OUTPUT_VARIABLE revision OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT revision)
  set(revision unknown)
endif()
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT "#pragma once
#define WARMPATH_VERSION \"@VERSION@\"
#define WARMPATH_GIT_REVISION \"@revision@\"
" @ONLY)
