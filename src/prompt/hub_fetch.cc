#include "prompt/hub_fetch.h"

#include <fmt/format.h>

#include <utility>

#include "base/mutex.h"
#include "net/content_length.h"

namespace warmpath::prompt {
namespace {

constexpr Duration kConnectTimeout = std::chrono::seconds(10);

auto Stopped() {
  return Fail(Code::kCancelled, "stopped");
}

}  // namespace

// What the loop and the waiting thread share about one call.
struct HubFetcher::Wait {
  Mutex mutex;
  CondVar changed;
  bool done GUARDED_BY(mutex) = false;
  Status failure GUARDED_BY(mutex);
  FetchedFile answer;  // the loop's until done

  void Finish(Status status) EXCLUDES(mutex) {
    MutexLock lock(mutex);
    if (done) return;
    done = true;
    failure = std::move(status);
    changed.NotifyAll();
  }
  // False when neither done nor stopped by then.
  bool Until(TimePoint deadline, const std::stop_token& stop) EXCLUDES(mutex) {
    const std::stop_callback wake(stop, [this] {
      MutexLock lock(mutex);
      changed.NotifyAll();
    });
    MutexLock lock(mutex);
    while (!done && !stop.stop_requested()) {
      if (!changed.WaitUntil(mutex, deadline) && !done) return stop.stop_requested();
    }
    return true;
  }
};

HubFetcher::HubFetcher(const HubOptions& options, std::stop_token stop)
    : options_(options), stop_(std::move(stop)), loop_("hub") {
  loop_.Start();
  loop_.Run([this] {
    net::HttpClientOptions client;
    client.connect_timeout = kConnectTimeout;
    client.tls = options_.tls;
    client_ = net::HttpClient::Create(loop_, client);
  });
}

HubFetcher::~HubFetcher() {
  loop_.Run([this] { client_.reset(); });
  loop_.Stop();
}

Result<FetchedFile> HubFetcher::Get(const HubAddress& address, const std::string& token) {
  if (stop_.stop_requested()) return Stopped();
  net::HttpRequest request;
  request.method = "GET";
  request.target = address.target;
  request.headers = {{"User-Agent", "warmpath"}, {"Accept-Encoding", "identity"}};
  if (!token.empty()) request.headers.Add("Authorization", "Bearer " + token);

  const auto wait = std::make_shared<Wait>();
  const auto too_large = [this, where = address.ToString()] {
    return Fail(Code::kOutOfBounds,
                fmt::format("{} is larger than {}", where, FormatSize(options_.max_file_bytes)));
  };
  net::CallHandlers handlers;
  handlers.on_head = [this, wait, too_large](net::HttpResponseHead head) {
    wait->answer.status = head.status;
    wait->answer.headers = std::move(head.headers);
    const uint64_t length = net::ContentLength(wait->answer.headers).value_or(0);
    if (length > options_.max_file_bytes) wait->Finish(too_large());
  };
  handlers.on_data = [this, wait, too_large](std::string_view bytes) {
    std::string& body = wait->answer.body;
    if (body.size() + bytes.size() > options_.max_file_bytes) {
      wait->Finish(too_large());
    } else {
      body.append(bytes);
    }
  };
  handlers.on_end = [wait] { wait->Finish({}); };
  handlers.on_error = [wait, where = address.ToString()](net::CallFailure, Error error) {
    const Code code = error.code == Code::kTimeout ? Code::kTimeout : Code::kUnavailable;
    wait->Finish(Fail(code, fmt::format("{}: {}", where, error.message)));
  };
  net::CallOptions call_options;
  call_options.head_timeout = call_options.idle_timeout = options_.idle_timeout;
  std::unique_ptr<net::HttpCall> call;
  loop_.Run([&] {
    call = client_->Send(address.url, std::move(request), call_options, std::move(handlers));
  });
  const bool ended = wait->Until(SystemClock().Now() + options_.file_timeout, stop_);
  loop_.Run([&] { call.reset(); });
  if (!ended) {
    return Fail(Code::kTimeout, fmt::format("{}: not complete within {}", address.ToString(),
                                            FormatDuration(options_.file_timeout)));
  }
  MutexLock lock(wait->mutex);
  if (!wait->done) return Stopped();
  if (!wait->failure) return tl::unexpected(wait->failure.error());
  return std::move(wait->answer);
}

Status HubFetcher::Pause(Duration duration) {
  Wait wait;
  if (wait.Until(SystemClock().Now() + duration, stop_)) return Stopped();
  return {};
}

}  // namespace warmpath::prompt
