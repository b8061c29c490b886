// The command line of `warmpath sidecar`: the flags of llm-d's routing sidecar, of its older
// releases too, and what they mean to a proxy that passes everything through.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "app/cli_flags.h"
#include "app/epp_flags.h"
#include "app/go_flags.h"
#include "app/process.h"
#include "base/log.h"
#include "codec/yaml.h"
#include "net/file_watch.h"
#include "net/small_file.h"
#include "net/tls.h"
#include "sidecar/sidecar.h"

namespace warmpath::app {
namespace {

using namespace std::chrono_literals;

constexpr const char* kProxy = "Proxy";
constexpr const char* kEngine = "Engine";
constexpr const char* kNoEffect = "Accepted, no effect here";
constexpr size_t kMaxConfigurationBytes = 1 << 20;

struct SidecarCommand {
  sidecar::SidecarOptions options;
  bool secure_proxy = true;
  std::string cert_path;
  std::vector<std::string> tls_stages;         // --enable-tls
  std::vector<std::string> unverified_stages;  // --tls-insecure-skip-verify
  bool decoder_use_tls = false;
  bool decoder_skip_verify = false;
  std::string engine_ca_file;
  size_t threads = 1;
  Duration drain_timeout = 30s;
  std::string ready_file;
  std::vector<std::string> without_effect;  // given, and read for nothing
};

bool NamesDecoder(const std::vector<std::string>& stages) {
  return std::find(stages.begin(), stages.end(), "decoder") != stages.end();
}

void AddIgnored(CLI::App& app, SidecarCommand& command, const std::string& flag, bool boolean,
                const std::string& why) {
  const std::string name = flag.substr(0, flag.find(','));
  if (boolean) {
    app.add_flag_function(
           flag, [&command, name](int64_t) { command.without_effect.push_back(name); }, why)
        ->group(kNoEffect);
  } else {
    app.add_option_function<std::string>(
           flag, [&command, name](const std::string&) { command.without_effect.push_back(name); },
           why)
        ->group(kNoEffect);
  }
}

void AddIgnoredFlags(CLI::App& app, SidecarCommand& c) {
  const std::string prefill = "of prefill on another engine";
  AddIgnored(app, c, "--kv-connector,--connector", false, prefill);
  AddIgnored(app, c, "--ec-connector", false, "of encoding on another engine");
  AddIgnored(app, c, "--mooncake-bootstrap-port", false, prefill);
  AddIgnored(app, c, "--p2p-connector-port", false, prefill);
  AddIgnored(app, c, "--enable-p2p-pull", true, prefill);
  AddIgnored(app, c, "--enable-prefiller-sampling", true, prefill);
  AddIgnored(app, c, "--prefill-max-retries", false, prefill);
  AddIgnored(app, c, "--prefill-retry-backoff", false, prefill);
  AddIgnored(app, c, "--prefiller-use-tls", true, prefill);
  AddIgnored(app, c, "--prefiller-tls-insecure-skip-verify", true, prefill);
  AddIgnored(app, c, "--decode-chunk-size", false, "answers pass as the engine gives them");
  const std::string ssrf = "no header makes this proxy connect elsewhere";
  AddIgnored(app, c, "--enable-ssrf-protection", true, ssrf);
  AddIgnored(app, c, "--inference-pool", false, ssrf);
  AddIgnored(app, c, "--inference-pool-name", false, ssrf);
  AddIgnored(app, c, "--inference-pool-namespace", false, ssrf);
  AddIgnored(app, c, "--pool-group", false, ssrf);
  AddIgnored(app, c, "--metrics-port", false,
             "the engine's metrics pass through, there are none else");
  AddIgnored(app, c, "--tracing", true, "spans are not exported; W3C trace headers pass through");
}

void AddProxyFlags(CLI::App& app, SidecarCommand& c) {
  app.add_option("--host", c.options.host, "address to listen on")
      ->default_str("0.0.0.0")
      ->group(kProxy);
  AddPort(app, "--port", c.options.port, "8000", "port of rank 0; rank i is at port + i")
      ->group(kProxy);
  app.add_flag("--secure-proxy", c.secure_proxy, "TLS on the port; true unless told otherwise")
      ->default_str("true")
      ->group(kProxy);
  app.add_option("--cert-path", c.cert_path,
                 "directory with tls.crt and tls.key, read again when they change; self-signed "
                 "when not given")
      ->type_name("DIR")
      ->group(kProxy);
  AddDuration(app, "--drain-timeout", c.drain_timeout, "30s",
              "how long a stop waits for requests under way")
      ->group(kProxy);
  app.add_option("--threads", c.threads, "request threads")
      ->check(CLI::Range(1, 256))
      ->default_str("1")
      ->group(kProxy);
  app.add_option("--configuration", "flags as YAML, by their names; the command line wins")
      ->type_name("YAML")
      ->group(kProxy);
  app.add_option("--configuration-file", "the same from a file")->type_name("FILE")->group(kProxy);
  AddReadyFile(app, c.ready_file);
}

void AddEngineFlags(CLI::App& app, SidecarCommand& c) {
  const CLI::IsMember stages({"prefiller", "decoder", "encoder"});
  app.add_option("--model-server-host", c.options.engine_host, "where the engine listens")
      ->default_str("127.0.0.1")
      ->group(kEngine);
  AddPort(app, "--model-server-port,--vllm-port", c.options.engine_port, "8200",
          "its port; rank i is at port + i")
      ->group(kEngine);
  app.add_option("--data-parallel-size", c.options.data_parallel_size,
                 "ranks of the engine, each with a port of its own")
      ->check(CLI::Range(1, 256))
      ->default_str("1")
      ->group(kEngine);
  app.add_option("--enable-tls", c.tls_stages,
                 "stages that speak TLS, comma separated: decoder is the engine beside this proxy; "
                 "prefiller and encoder have no effect")
      ->delimiter(',')
      ->check(stages)
      ->type_name("STAGES")
      ->group(kEngine);
  app.add_option("--tls-insecure-skip-verify", c.unverified_stages,
                 "stages whose certificates are not verified")
      ->delimiter(',')
      ->check(stages)
      ->type_name("STAGES")
      ->group(kEngine);
  app.add_flag("--decoder-use-tls", c.decoder_use_tls, "as --enable-tls=decoder")->group(kEngine);
  app.add_flag("--decoder-tls-insecure-skip-verify", c.decoder_skip_verify,
               "as --tls-insecure-skip-verify=decoder")
      ->group(kEngine);
  app.add_option("--engine-ca-file", c.engine_ca_file,
                 "certificate authority of an engine with TLS; the system's when not given")
      ->type_name("FILE")
      ->group(kEngine);
  app.add_option("--max-idle-conns-per-host", c.options.client.max_idle_per_host,
                 "idle connections to the engine that are kept")
      ->check(CLI::Range(1, 1 << 20))
      ->default_str("256")
      ->group(kEngine);
}

Status ApplyTls(SidecarCommand& c, std::shared_ptr<net::TlsContext>& own) {
  c.options.engine_tls = c.decoder_use_tls || NamesDecoder(c.tls_stages);
  if (c.options.engine_tls) {
    net::TlsClientOptions tls;
    tls.verify = !c.decoder_skip_verify && !NamesDecoder(c.unverified_stages);
    tls.ca_file = c.engine_ca_file;
    tls.alpn = {"http/1.1"};
    WP_TRY(c.options.client.tls, net::TlsContext::Client(tls));
  }
  if (c.secure_proxy) {
    net::TlsServerOptions tls;
    tls.cert_dir = c.cert_path;
    tls.alpn = {"http/1.1"};
    WP_TRY(own, net::TlsContext::Server(tls));
    c.options.server.tls = own;
    WP_LOG(kInfo, "sidecar", "TLS certificate",
           {"source", c.cert_path.empty() ? "self-signed" : c.cert_path},
           {"sha256", own->Fingerprint()});
  }
  return {};
}

std::unique_ptr<net::FileWatch> WatchCertificate(net::Loop& loop, const std::string& directory,
                                                 std::shared_ptr<net::TlsContext> tls) {
  const std::vector<std::string> files = {directory + "/tls.crt", directory + "/tls.key"};
  return std::make_unique<net::FileWatch>(loop, files, [tls = std::move(tls)] {
    if (const Status reloaded = tls->Reload(); reloaded) {
      WP_LOG(kInfo, "sidecar", "TLS certificate reloaded", {"sha256", tls->Fingerprint()});
    } else {
      WP_LOG(kError, "sidecar", "TLS certificate refused; the one in use stays",
             {"error", reloaded.error().message});
    }
  });
}

int RunSidecar(SidecarCommand& c) {
  if (const char* pod_ip = std::getenv("POD_IP")) c.options.pod_ip = pod_ip;
  std::shared_ptr<net::TlsContext> tls;
  if (auto applied = ApplyTls(c, tls); !applied) return ReportError(applied.error());
  if (!c.without_effect.empty()) {
    WP_LOG(kInfo, "sidecar", "flags without effect: requests go to the engine beside this proxy",
           {"flags", fmt::format("{}", fmt::join(c.without_effect, " "))});
  }
  net::LoopGroup loops("sidecar", c.threads);
  auto proxy = sidecar::Sidecar::Create(loops, c.options);
  if (!proxy) return ReportError(proxy.error());
  loops.Start();
  std::unique_ptr<net::FileWatch> watch;
  if (tls && !c.cert_path.empty()) {
    loops.at(0).Run([&] { watch = WatchCertificate(loops.at(0), c.cert_path, tls); });
  }

  std::vector<std::pair<std::string, std::string>> listeners;
  const auto addresses = (*proxy)->addresses();
  for (size_t rank = 0; rank < addresses.size(); ++rank) {
    const net::Url url{c.secure_proxy, addresses[rank], ""};
    const net::Url engine{
        c.options.engine_tls,
        {c.options.engine_host, static_cast<uint16_t>(c.options.engine_port + rank)},
        ""};
    listeners.emplace_back(rank == 0 ? "sidecar" : fmt::format("sidecar_rank_{}", rank),
                           url.ToString());
    WP_LOG(kInfo, "sidecar", "listening", {"url", url.ToString()}, {"engine", engine.ToString()});
  }
  auto written = WriteReadyFile(c.ready_file, listeners);
  if (written) {
    WaitForStopSignal();
    WP_LOG(kInfo, "sidecar", "draining; a second signal ends at once",
           {"requests", (*proxy)->in_flight()});
    (*proxy)->Stop(c.drain_timeout);
  }
  loops.at(0).Run([&] { watch.reset(); });
  proxy->reset();
  loops.Stop();
  return written ? kExitOk : ReportError(written.error());
}

// ---- --configuration and --configuration-file: flags in YAML

Result<std::vector<std::string>> FlagsOfYaml(const std::string& source, std::string_view text) {
  const auto wrong = [&](int line, const std::string& what) {
    return Fail(Code::kInvalidArgument, fmt::format("{}:{}: {}", source, line, what));
  };
  const auto root = codec::ParseYaml(text);
  if (!root) return Fail(Code::kInvalidArgument, source + ": " + root.error().message);
  std::vector<std::string> arguments;
  if (root->is_null()) return arguments;
  if (!root->is_map()) return wrong(root->line, "must be a map of flags");
  for (const auto& [name, value] : root->members) {
    std::vector<std::string> parts;
    if (value.is_scalar()) {
      parts.push_back(value.scalar);
    } else if (value.is_sequence()) {
      for (const codec::YamlNode& item : value.items) parts.push_back(item.scalar);
    } else {
      return wrong(value.key_line, fmt::format("\"{}\" needs a value or a list", name));
    }
    if (name.starts_with("configuration")) {
      return wrong(value.key_line, "a configuration names no other");
    }
    arguments.push_back(fmt::format("--{}={}", name, fmt::join(parts, ",")));
  }
  return arguments;
}

// The flags that `arguments` bring in from a configuration.
Result<std::vector<std::string>> ConfiguredFlags(const std::vector<std::string>& arguments) {
  std::vector<std::string> configured;
  const auto add = [&](const std::string& source, std::string_view text) -> Status {
    WP_TRY(const auto flags, FlagsOfYaml(source, text));
    configured.insert(configured.end(), flags.begin(), flags.end());
    return {};
  };
  constexpr std::string_view kInline = "--configuration=";
  constexpr std::string_view kFile = "--configuration-file=";
  for (const std::string& argument : arguments) {
    if (argument.starts_with(kInline)) {
      WP_RETURN_IF_ERROR(add("--configuration", argument.substr(kInline.size())));
    } else if (argument.starts_with(kFile)) {
      const std::string path = argument.substr(kFile.size());
      auto text = net::ReadSmallFile(path, kMaxConfigurationBytes);
      if (!text) return Fail(Code::kInvalidArgument, text.error().message);
      WP_RETURN_IF_ERROR(add(path, *text));
    }
  }
  return configured;
}

}  // namespace

void AddSidecar(CLI::App& root, Action& action) {
  static SidecarCommand command;
  CLI::App& app = *root.add_subcommand(
      "sidecar", "the proxy beside an engine: passes every request through to it");
  AddProxyFlags(app, command);
  AddEngineFlags(app, command);
  AddIgnoredFlags(app, command);
  AddZapFlags(app);
  AddCommon(app, 127);
  // Go's flag packages let the last of several count.
  for (CLI::Option* option : app.get_options()) {
    if (option->get_expected_max() == 1) option->take_last();
  }
  app.callback([&action] { action = [] { return RunSidecar(command); }; });
}

Result<std::vector<std::string>> NormalizeSidecarArguments(
    const CLI::App& root, const std::vector<std::string>& arguments) {
  const std::vector<GoFlag> flags = GoFlagsOf(*root.get_subcommand("sidecar"));
  WP_TRY(const auto given, NormalizeGoFlags(arguments, flags));
  WP_TRY(const auto configured, ConfiguredFlags(given));
  WP_TRY(auto out, NormalizeGoFlags(configured, flags));
  out.insert(out.end(), given.begin(), given.end());
  return out;
}

}  // namespace warmpath::app
