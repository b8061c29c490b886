#include "net/http_client.h"

#include <fmt/format.h>

#include <algorithm>
#include <future>
#include <utility>

#include "net/client_call.h"
#include "net/content_length.h"

namespace warmpath::net {
namespace {

constexpr uint64_t kMaxReservedBody = 256 << 10;  // of a declared length that has not arrived yet

class CallHandle final : public HttpCall {
 public:
  explicit CallHandle(std::shared_ptr<ClientCall> call) : call_(std::move(call)) {}
  ~CallHandle() override { call_->Cancel(); }
  void Cancel() override { call_->Cancel(); }
  void Pause() override { call_->Pause(); }
  void Resume() override { call_->Resume(); }
  size_t Write(std::string_view bytes) override { return call_->Write(bytes); }
  void End() override { call_->End(); }

 private:
  const std::shared_ptr<ClientCall> call_;
};

// A whole answer being collected; owned by the handlers of its call and by its timer.
struct FetchState {
  HttpResponse response;
  size_t max_body = 0;
  std::function<void(Result<HttpResponse>)> done;
  Timer timeout;
  std::weak_ptr<ClientCall> call;

  void Finish(Result<HttpResponse> result) {
    timeout.Cancel();
    if (const auto running = call.lock()) running->Cancel();
    if (const auto report = std::exchange(done, nullptr)) report(std::move(result));
  }
};

class Client final : public HttpClient {
 public:
  Client(Loop& loop, HttpClientOptions options)
      : shared_(std::make_shared<ClientShared>(loop, std::move(options))) {}

  ~Client() override {
    const auto calls = std::exchange(shared_->calls, {});
    for (const auto& call : calls) call->Cancel();
    shared_->pool.Clear();
  }

  std::unique_ptr<HttpCall> Send(const Url& url, HttpRequest request, CallOptions options,
                                 CallHandlers handlers) override {
    return std::make_unique<CallHandle>(
        StartCall(url, std::move(request), options, std::move(handlers)));
  }

  void Fetch(const Url& url, HttpRequest request, Duration timeout, size_t max_body,
             std::function<void(Result<HttpResponse>)> done) override {
    auto state = std::make_shared<FetchState>();
    state->max_body = max_body;
    state->done = std::move(done);
    CallHandlers handlers;
    handlers.on_head = [state](HttpResponseHead head) {
      state->response.status = head.status;
      state->response.headers = std::move(head.headers);
      // A page of an engine's metrics comes in many pieces.
      const uint64_t length = ContentLength(state->response.headers).value_or(0);
      state->response.body.reserve(static_cast<size_t>(std::min(length, kMaxReservedBody)));
    };
    handlers.on_data = [state](std::string_view bytes) {
      if (bytes.size() > state->max_body - state->response.body.size()) {
        state->Finish(
            Fail(Code::kOutOfBounds, fmt::format("the answer exceeds {} bytes", state->max_body)));
        return;
      }
      state->response.body.append(bytes);
    };
    handlers.on_end = [state] { state->Finish(std::move(state->response)); };
    handlers.on_error = [state](CallFailure, Error error) {
      state->Finish(tl::unexpected(std::move(error)));
    };
    CallOptions options;
    options.head_timeout = options.idle_timeout = timeout;
    state->call = StartCall(url, std::move(request), options, std::move(handlers));
    // Weak: a call cancelled with its client drops the state, and with it this timer.
    state->timeout = shared_->loop.After(timeout, [weak = std::weak_ptr(state)] {
      if (const auto late = weak.lock()) {
        late->Finish(Fail(Code::kTimeout, "no complete answer in time"));
      }
    });
  }

 private:
  std::shared_ptr<ClientCall> StartCall(const Url& url, HttpRequest request, CallOptions options,
                                        CallHandlers handlers) {
    auto call = std::make_shared<ClientCall>(shared_, url, std::move(request), options,
                                             std::move(handlers));
    call->Start();
    return call;
  }

  const std::shared_ptr<ClientShared> shared_;
};

}  // namespace

std::unique_ptr<HttpClient> HttpClient::Create(Loop& loop, HttpClientOptions options) {
  return std::make_unique<Client>(loop, std::move(options));
}

Result<HttpResponse> FetchBlocking(const Url& url, HttpRequest request, Duration timeout,
                                   size_t max_body, std::shared_ptr<TlsContext> tls) {
  Loop loop("fetch");
  loop.Start();
  std::promise<Result<HttpResponse>> answer;
  std::unique_ptr<HttpClient> client;
  loop.Run([&] {
    HttpClientOptions options;
    options.tls = std::move(tls);
    options.connect_timeout = std::min<Duration>(options.connect_timeout, timeout);
    client = HttpClient::Create(loop, options);
    client->Fetch(url, std::move(request), timeout, max_body,
                  [&answer](Result<HttpResponse> result) { answer.set_value(std::move(result)); });
  });
  Result<HttpResponse> result = answer.get_future().get();
  loop.Run([&] { client.reset(); });
  loop.Stop();
  return result;
}

}  // namespace warmpath::net
