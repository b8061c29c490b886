#include "app/picker.h"

#include <fmt/format.h>

#include "base/log.h"
#include "base/units.h"

namespace warmpath::app {
namespace {

// The peer is a proxy that carries many clients: when thousands of them leave at once, that is no
// attack of its own. The burst allowed is twenty times this.
constexpr double kResetsPerSecond = 1000;

// A Kubernetes quantity, or empty for the default; llm-d also takes a trailing "B".
Result<size_t> ParseMessageLimit(const std::string& flag, const std::string& text,
                                 size_t fallback) {
  if (text.empty()) return fallback;
  const auto size = ParseSize(text);
  if (size && *size > 0) return static_cast<size_t>(*size);
  return Fail(Code::kInvalidArgument,
              fmt::format("--{} {}: must be a size such as 4Mi", flag, JsonQuote(text)));
}

Result<std::shared_ptr<net::TlsContext>> MakeTls(const PickerOptions& options) {
  net::TlsServerOptions tls;
  tls.cert_dir = options.cert_path;
  tls.min_version = options.tls_min_version;
  for (const std::string_view suite : Split(options.tls_cipher_suites, ',')) {
    if (!Trim(suite).empty()) tls.cipher_suites.emplace_back(Trim(suite));
  }
  tls.alpn = {"h2"};
  return net::TlsContext::Server(tls);
}

}  // namespace

Result<std::unique_ptr<Picker>> Picker::Create(const PickerOptions& options,
                                               extproc::ExtProcOptions base, Deps deps) {
  std::unique_ptr<Picker> picker(new Picker(options));
  if (options.secure_serving) {
    WP_TRY(picker->tls_, MakeTls(options));
    WP_LOG(kInfo, "extproc", "TLS certificate",
           {"source", options.cert_path.empty() ? "self-signed" : options.cert_path},
           {"sha256", picker->tls_->Fingerprint()});
  }
  base.listen = {options.host, options.grpc_port};
  base.grpc.tls = picker->tls_;
  base.grpc.max_resets_per_second = kResetsPerSecond;
  WP_TRY(base.grpc.max_message_bytes,
         ParseMessageLimit("grpc-max-recv-msg-size", options.grpc_max_recv_msg_size,
                           base.grpc.max_message_bytes));
  base.max_buffered_bytes = options.max_buffered_bytes;
  base.use_subset_hint = !options.disable_endpoint_subset_filter;
  base.emit_endpoint_scores = options.emit_endpoint_scores;
  base.bypass_responses = options.bypass_responses;
  base.conformance_headers = options.conformance_test_headers;
  base.stream_metrics = options.enable_grpc_stream_metrics;
  base.health_on_this_port = options.health_checking;
  WP_TRY(picker->server_, extproc::ExtProcServer::Create(deps.loops, base, deps.router));
  WP_TRY(picker->health_,
         extproc::HealthServer::Create(deps.health_loop, {options.host, options.grpc_health_port},
                                       deps.router.health));
  return picker;
}

void Picker::WatchCertificate(net::Loop& loop) {
  if (tls_ == nullptr || options_.cert_path.empty() || !options_.enable_cert_reload) return;
  const std::vector<std::string> files = {options_.cert_path + "/tls.crt",
                                          options_.cert_path + "/tls.key"};
  watch_ = std::make_unique<net::FileWatch>(loop, files, [this] {
    if (const Status reloaded = tls_->Reload(); reloaded) {
      WP_LOG(kInfo, "extproc", "TLS certificate reloaded", {"sha256", tls_->Fingerprint()});
    } else {
      WP_LOG(kError, "extproc", "TLS certificate refused; the one in use stays",
             {"error", reloaded.error().message});
    }
  });
}

void Picker::Stop(Duration deadline) {
  server_->Stop(deadline);
  health_->Stop();
}

}  // namespace warmpath::app
