// Api over HTTP/1.1, one connection for each request at hand.
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "base/units.h"
#include "k8s/api.h"
#include "k8s/credentials.h"
#include "k8s/metrics.h"
#include "net/http_client.h"
#include "net/tls.h"

namespace warmpath::k8s {
namespace {

using std::chrono::seconds;

constexpr Duration kConnectTimeout = seconds(10);
constexpr Duration kKeepAlive = seconds(30);  // a watch is silent for a minute at a time
constexpr Duration kRefreshAtMost = seconds(1);
constexpr size_t kMaxErrorBody = 64 << 10;
constexpr int64_t kMaxRetryAfter = 86'400;
constexpr char kUserAgent[] = "warmpath/" WARMPATH_PROJECT_VERSION " (linux)";

Duration RetryAfterOf(const net::Headers& headers) {
  const auto text = headers.Get("Retry-After");
  const auto value = text ? ParseInt(*text) : Fail(Code::kNotFound, "");
  return value && *value > 0 ? seconds(std::min(*value, kMaxRetryAfter)) : seconds(0);
}

// What calls share, and what outlives the Api while one runs.
struct Session {
  Session(net::Loop& owner, const ClusterConfig& cluster, Registry& registry, const Clock& time,
          Credentials who, std::shared_ptr<net::TlsContext> context)
      : loop(owner),
        config(cluster),
        metrics(registry),
        clock(time),
        credentials(std::move(who)),
        tls(std::move(context)) {}

  std::shared_ptr<net::HttpClient> Client() {
    if (!client) {
      net::HttpClientOptions options;
      options.connect_timeout = kConnectTimeout;
      options.tcp_keepalive = kKeepAlive;
      options.tls = tls;
      client = net::HttpClient::Create(loop, std::move(options));
    }
    return client;
  }

  bool HasFiles() const {
    return !config.token_file.empty() || !config.ca_file.empty() || !config.cert_file.empty();
  }
  // Reads the token, the authorities and the client's certificate again. Connections made with the
  // former ones serve no further request.
  void Refresh() {
    const TimePoint now = clock.Now();
    if (refreshed && now - *refreshed < kRefreshAtMost) return;
    refreshed = now;
    credentials.Refresh(now);
    ReloadTls();
    client.reset();
  }
  void ReloadTls() {
    // What is in use stays when a file is being replaced.
    if (tls && (!config.ca_file.empty() || !config.cert_file.empty())) (void)tls->Reload();
  }

  net::Loop& loop;
  const ClusterConfig config;
  const RequestMetrics metrics;
  const Clock& clock;
  Credentials credentials;
  const std::shared_ptr<net::TlsContext> tls;
  std::shared_ptr<net::HttpClient> client;
  std::optional<TimePoint> refreshed;
};

// Who is told about a request: `done`, or `stream`.
struct Receiver {
  Api::StreamHandlers stream;
  std::function<void(Result<ApiAnswer>)> done;
};

// One request, and its second attempt after a 401.
class HttpApiCall final : public ApiCall {
 public:
  HttpApiCall(std::shared_ptr<Session> session, ApiRequest request, Receiver receiver)
      : session_(std::move(session)),
        request_(std::move(request)),
        receiver_(std::make_shared<Receiver>(std::move(receiver))),
        stream_(receiver_->done == nullptr) {
    Begin();
  }

 private:
  void Begin() {
    net::HttpRequest request;
    request.method = request_.method;
    request.target = request_.path;
    request.headers = {{"User-Agent", kUserAgent}, {"Accept", "application/json"}};
    const std::string& token = session_->credentials.Token(session_->clock.Now());
    if (!token.empty()) request.headers.Add("Authorization", "Bearer " + token);
    if (!request_.body.empty()) {
      request.headers.Add("Content-Type", "application/json");
      request.body = request_.body;
    }
    net::CallOptions options;
    options.head_timeout = request_.head_timeout;
    options.idle_timeout = request_.idle_timeout;
    net::CallHandlers handlers;
    handlers.on_head = [this](const net::HttpResponseHead& head) { OnHead(head); };
    handlers.on_data = [this](std::string_view bytes) { OnData(bytes); };
    handlers.on_end = [this] { OnEnd(); };
    handlers.on_error = [this](net::CallFailure, const Error& error) { OnError(error); };
    client_ = session_->Client();
    call_ =
        client_->Send(session_->config.server, std::move(request), options, std::move(handlers));
  }

  void OnHead(const net::HttpResponseHead& head) {
    session_->metrics.Count(head.status);
    if (head.status == 401 && session_->HasFiles() && !std::exchange(retried_, true)) {
      session_->Refresh();
      call_.reset();
      retry_ = session_->loop.After(Duration::zero(), [this] { Begin(); });
      return;
    }
    answer_.status = head.status;
    answer_.retry_after = RetryAfterOf(head.headers);
    if (Streams()) {
      const auto receiver = receiver_;
      receiver->stream.on_head(answer_);
    }
  }

  void OnData(std::string_view bytes) {
    if (Streams()) {
      const auto receiver = receiver_;
      receiver->stream.on_data(bytes);
    } else if (stream_) {
      answer_.body += bytes.substr(0, kMaxErrorBody - answer_.body.size());
      if (answer_.body.size() < kMaxErrorBody) return;
      call_.reset();
      Finish({});
    } else if (bytes.size() > request_.max_body - answer_.body.size()) {
      call_.reset();
      Finish(
          Fail(Code::kOutOfBounds, fmt::format("the answer exceeds {} bytes", request_.max_body)));
    } else {
      answer_.body += bytes;
    }
  }

  void OnEnd() { Finish({}); }

  void OnError(const Error& error) {
    if (answer_.status == 0) {
      session_->metrics.Count(0);
      // One side may have a new certificate, or new authorities.
      session_->ReloadTls();
    }
    Finish(tl::unexpected(error));
  }

  // A handler may destroy this call; nothing of it is touched afterwards.
  void Finish(const Status& status) {
    const auto receiver = receiver_;
    if (!stream_) {
      receiver->done(status ? Result<ApiAnswer>(std::move(answer_))
                            : tl::unexpected(status.error()));
    } else if (answer_.status == 0 || answer_.status == 200) {
      receiver->stream.on_end(status);
    } else {
      // A refusal, as far as its body came.
      const std::weak_ptr<int> alive = alive_;
      receiver->stream.on_head(std::move(answer_));
      if (!alive.expired()) receiver->stream.on_end({});
    }
  }

  bool Streams() const { return stream_ && answer_.status == 200; }

  const std::shared_ptr<Session> session_;
  const ApiRequest request_;
  // Outlives its call while one of its handlers runs.
  const std::shared_ptr<Receiver> receiver_;
  const bool stream_;
  ApiAnswer answer_;
  bool retried_ = false;
  const std::shared_ptr<int> alive_ = std::make_shared<int>();
  std::shared_ptr<net::HttpClient> client_;
  std::unique_ptr<net::HttpCall> call_;  // goes before its client
  net::Timer retry_;
};

class HttpApi final : public Api {
 public:
  explicit HttpApi(std::shared_ptr<Session> session) : session_(std::move(session)) {}

  std::unique_ptr<ApiCall> Send(ApiRequest request,
                                std::function<void(Result<ApiAnswer>)> done) override {
    return std::make_unique<HttpApiCall>(session_, std::move(request),
                                         Receiver{.stream = {}, .done = std::move(done)});
  }

  std::unique_ptr<ApiCall> Stream(ApiRequest request, StreamHandlers handlers) override {
    return std::make_unique<HttpApiCall>(session_, std::move(request),
                                         Receiver{.stream = std::move(handlers), .done = nullptr});
  }

 private:
  const std::shared_ptr<Session> session_;
};

class LoopTimers final : public Timers {
 public:
  explicit LoopTimers(net::Loop& loop) : loop_(loop) {}

  std::shared_ptr<void> After(Duration delay, std::function<void()> fire) override {
    auto entry = std::make_shared<Entry>();
    entry->fire = std::move(fire);
    entry->timer = loop_.After(delay, [weak = std::weak_ptr(entry)] {
      const auto due = weak.lock();
      if (!due) return;
      const auto work = std::move(due->fire);
      work();
    });
    return entry;
  }

 private:
  struct Entry {
    std::function<void()> fire;
    net::Timer timer;
  };
  net::Loop& loop_;
};

}  // namespace

Result<std::unique_ptr<Api>> MakeApi(net::Loop& loop, const ClusterConfig& config,
                                     Registry& metrics, const Clock& clock) {
  WP_TRY(Credentials credentials, Credentials::Create(config, clock.Now()));
  std::shared_ptr<net::TlsContext> tls;
  if (config.server.tls) {
    net::TlsClientOptions options;
    options.verify = config.verify;
    options.ca_pem = config.ca_pem;
    options.ca_file = config.ca_file;
    options.cert_pem = config.cert_pem;
    options.cert_file = config.cert_file;
    options.key_pem = config.key_pem;
    options.key_file = config.key_file;
    options.server_name = config.tls_server_name;
    options.alpn = {"http/1.1"};
    auto context = net::TlsContext::Client(options);
    if (!context) return Fail(context.error(), config.source);
    tls = std::move(*context);
  }
  return std::make_unique<HttpApi>(std::make_shared<Session>(
      loop, config, metrics, clock, std::move(credentials), std::move(tls)));
}

std::unique_ptr<Timers> MakeTimers(net::Loop& loop) {
  return std::make_unique<LoopTimers>(loop);
}

}  // namespace warmpath::k8s
