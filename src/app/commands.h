// The subcommands' bodies. Each takes what the command line gave, and returns the process's exit
// code.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "app/cluster_flags.h"
#include "app/serve.h"
#include "base/result.h"
#include "config/compatibility.h"
#include "load/bench.h"
#include "sim/sim.h"

namespace warmpath::app {

struct ServeCommand {
  ServeOptions options;
  std::string ready_file;
};
int RunServe(ServeCommand& command, const ClusterFlags& cluster);

struct EppCommand {
  ServeCommand serve;  // options.picker is set
  ClusterFlags cluster;
  std::string destination_key;
  std::string destination_namespace;
};
// What the flags ask for together; fills in what the environment says (NAMESPACE). Errors are usage
// errors in llm-d's words.
Status CheckPickerFlags(EppCommand& command);
int RunEpp(EppCommand& command);

struct SimCommand {
  sim::SimOptions options;
  std::string ready_file;
};
int RunSim(const SimCommand& command);

struct BenchCommand {
  load::BenchOptions options;
  std::string json_file;  // "" = none, "-" = stdout instead of the table
};
int RunBenchCommand(const BenchCommand& command);

// Commands that ask a running router: `server` is its metrics address, "http://127.0.0.1:9090".
struct ClientCommand {
  std::string server;
  bool json = false;       // the API's answer as it is
  std::string request_id;  // explain ID
  std::string body_file;   // explain --body FILE ("-": stdin), tokenize --body
  std::string path = "/v1/chat/completions";
  std::string text;       // tokenize TEXT
  std::string tokenizer;  // tokenize without a server
  bool follow = false;    // endpoints --watch
};
int RunEndpoints(const ClientCommand& command);
int RunExplain(const ClientCommand& command);
int RunTokenize(const ClientCommand& command);

int RunConfigCheck(const std::vector<std::string>& files, bool allow_experimental);
// docs/llm-d-compatibility.md on standard output. `flags`: the endpoint picker's.
int RunCompatibility(const std::vector<config::CompatibilityRow>& flags);

}  // namespace warmpath::app
