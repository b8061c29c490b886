// The command line: subcommands, flags, environment, --help. Exit codes: 0 ok, 1 runtime, 2 usage.
#pragma once

namespace warmpath::app {

int RunCli(int argc, char** argv);

}  // namespace warmpath::app
