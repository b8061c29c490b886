// Requests to the Kubernetes API, and the time they need: the two things a reflector, a lease and a
// review are given, so that tests own both.
//
// Loop-confined, all of it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/metrics.h"
#include "base/result.h"
#include "k8s/cluster.h"
#include "net/loop.h"

namespace warmpath::k8s {

struct ApiRequest {
  std::string method = "GET";
  std::string path;  // with its query, percent-encoded
  std::string body;  // JSON
  Duration head_timeout = std::chrono::seconds(30);
  Duration idle_timeout = std::chrono::seconds(30);  // between two reads of the body
  size_t max_body = size_t{256} << 20;               // of Send; more is an error
};

struct ApiAnswer {
  int status = 0;
  Duration retry_after{};  // of 429 and 503; zero = not given
  std::string body;        // empty for a stream's head with status 200
};

// For people: "403: pods is forbidden: ...", with the message of the Status that `body` may be.
std::string AnswerError(const ApiAnswer& answer);

// Destroying it ends the call; no handler is called afterwards. A handler may destroy it.
class ApiCall {
 public:
  virtual ~ApiCall() = default;
};

class Api {
 public:
  virtual ~Api() = default;
  // `done`: an answer of any status, or why there is none. Never called from inside Send.
  [[nodiscard]] virtual std::unique_ptr<ApiCall> Send(
      ApiRequest request, std::function<void(Result<ApiAnswer>)> done) = 0;

  struct StreamHandlers {
    std::function<void(ApiAnswer)>
        on_head;  // once; a status but 200 comes with its body (64 KiB of it), and ends it
    std::function<void(std::string_view)> on_data;
    std::function<void(Status)> on_end;  // once, last: the peer's regular end, or the error
  };
  [[nodiscard]] virtual std::unique_ptr<ApiCall> Stream(ApiRequest request,
                                                        StreamHandlers handlers) = 0;
};

// Timers as a dependency. Dropping the handle cancels.
class Timers {
 public:
  virtual ~Timers() = default;
  [[nodiscard]] virtual std::shared_ptr<void> After(Duration delay, std::function<void()> fire) = 0;
};

// The real ones. `loop` outlives them; made before it starts or on it, used and destroyed on it.
//
// The client sends the token of `config.token_file` as read within the last minute; a 401 reads it
// (and the authorities' file) again and tries once more. The token is never logged.
Result<std::unique_ptr<Api>> MakeApi(net::Loop& loop, const ClusterConfig& config,
                                     Registry& metrics, const Clock& clock);
std::unique_ptr<Timers> MakeTimers(net::Loop& loop);

}  // namespace warmpath::k8s
