// Command lines written for Go's flag packages, in the one spelling the flag library here reads.
//
// The endpoint picker's arguments come from charts of several years: -poolName X, --pool-name=X,
// --v "4", --enablePprof=true. Names are compared without dashes, underscores and case, so every
// spelling of a flag is the flag. Pure functions.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace warmpath::app {

struct GoFlag {
  std::string name;      // canonical, without dashes: "pool-name"
  bool boolean = false;  // takes a value only behind '=': --flag, --flag=false
  std::vector<std::string> aliases{};
};

// `arguments` as "--name=value" each, in order. An argument that names no flag of `flags` is passed
// on as it is (the flag library says what is wrong with it), and so is everything from "--help" or
// "-h" on. kInvalidArgument, naming the flag: a missing value, a boolean that is none of Go's
// (1 t T true TRUE True 0 f F false FALSE False), an argument that is no flag.
Result<std::vector<std::string>> NormalizeGoFlags(const std::vector<std::string>& arguments,
                                                  const std::vector<GoFlag>& flags);

// Charts start llm-d's images, which are one program each, with flags alone. "epp" or "sidecar"
// when `arguments` begins with a flag and has one that only that program has; "" otherwise.
std::string ImpliedCommand(const std::vector<std::string>& arguments);

}  // namespace warmpath::app
