// What tests of the fleet have in common: an engine's answers on a loop of its own. Tests only.
#pragma once

#include <fmt/format.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

#include "base/mutex.h"
#include "fleet/endpoint.h"
#include "net/http_server.h"
#include "net/loop.h"

namespace warmpath::fleet {

// True as soon as `condition` holds; false after five seconds.
inline bool Eventually(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  while (std::chrono::steady_clock::now() < deadline) {
    if (condition()) return true;
    std::this_thread::yield();
  }
  return condition();
}

// As much of an engine as the fleet asks for, below any path.
class FakeEngine {
 public:
  explicit FakeEngine(uint16_t port = 0, const std::string& host = "127.0.0.1") : loop_("engine") {
    auto server = net::HttpServer::Listen(
        loop_, {host, port}, {},
        [this](std::shared_ptr<net::HttpExchange> exchange) { Answer(*exchange); });
    if (!server) throw std::runtime_error(server.error().message);
    server_ = std::move(*server);
    loop_.Start();
  }
  ~FakeEngine() {
    server_->Stop(std::chrono::milliseconds(0));
    server_.reset();
    loop_.Stop();
  }

  uint16_t port() const { return server_->port(); }
  EndpointSpec Spec(const std::string& name = "a") const {
    EndpointSpec spec;
    spec.name = name;
    spec.url = net::ParseUrl(fmt::format("http://127.0.0.1:{}", port())).value();
    return spec;
  }
  void SetHealthPath(std::string path) {
    MutexLock lock(mutex_);
    health_path_ = std::move(path);
  }
  void SetModel(std::string model) {
    MutexLock lock(mutex_);
    model_ = std::move(model);
  }
  void SetMetrics(std::string page) {
    MutexLock lock(mutex_);
    metrics_ = std::move(page);
  }
  // Of the last request.
  std::string host() {
    MutexLock lock(mutex_);
    return host_;
  }
  std::string authorization() {
    MutexLock lock(mutex_);
    return authorization_;
  }

  std::atomic<int> health_status{200};
  std::atomic<int> models_status{200};
  std::atomic<int> running{0};
  std::atomic<int> waiting{0};
  std::atomic<bool> broken_metrics{false};
  std::atomic<int> healths{0};
  std::atomic<int> scrapes{0};
  std::atomic<int> model_lists{0};

 private:
  void Answer(net::HttpExchange& exchange) {
    const std::string path(exchange.request().path());
    MutexLock lock(mutex_);
    host_ = exchange.request().headers.Get("host").value_or("");
    authorization_ = exchange.request().headers.Get("authorization").value_or("");
    if (path.ends_with(health_path_)) {
      ++healths;
      return exchange.Respond(health_status, {}, "");
    }
    if (path.ends_with("/metrics") && !broken_metrics) {
      ++scrapes;
      if (!metrics_.empty()) return exchange.Respond(200, {}, metrics_);
      return exchange.Respond(
          200, {},
          fmt::format("vllm:num_requests_running {}\nvllm:num_requests_waiting {}\n"
                      "vllm:kv_cache_usage_perc 0.5\nvllm:cache_config_info{{"
                      "block_size=\"16\",num_gpu_blocks=\"100\"}} 1\n",
                      running.load(), waiting.load()));
    }
    if (path.ends_with("/v1/models")) {
      ++model_lists;
      return exchange.Respond(models_status, {},
                              fmt::format(R"({{"data":[{{"id":"{}","root":"r"}}]}})", model_));
    }
    if (path.ends_with("/version")) return exchange.Respond(200, {}, R"({"version":"0.14.1"})");
    exchange.Respond(404, {}, "");
  }

  net::Loop loop_;
  std::unique_ptr<net::HttpServer> server_;
  Mutex mutex_;
  std::string model_ GUARDED_BY(mutex_) = "m";
  std::string health_path_ GUARDED_BY(mutex_) = "/health";
  std::string metrics_ GUARDED_BY(mutex_);
  std::string host_ GUARDED_BY(mutex_);
  std::string authorization_ GUARDED_BY(mutex_);
};

}  // namespace warmpath::fleet
