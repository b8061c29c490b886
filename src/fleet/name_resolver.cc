#include "fleet/name_resolver.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <thread>
#include <utility>

#include "base/mutex.h"
#include "base/thread.h"

namespace warmpath::fleet {
namespace {

constexpr size_t kThreads = 4;
constexpr size_t kMaxAddresses = 64;
constexpr auto kStopPatience = std::chrono::milliseconds(500);

}  // namespace

Result<std::vector<std::string>> SystemLookup(const std::string& host) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int error = getaddrinfo(host.c_str(), nullptr, &hints, &found); error != 0) {
    return Fail(Code::kUnavailable,
                fmt::format("cannot resolve {}: {}", host, gai_strerror(error)));
  }
  std::vector<std::string> addresses;
  for (const addrinfo* at = found; at != nullptr && addresses.size() < kMaxAddresses;
       at = at->ai_next) {
    char text[INET6_ADDRSTRLEN] = {};
    const void* raw = nullptr;
    if (at->ai_family == AF_INET) {
      raw = &reinterpret_cast<const sockaddr_in*>(at->ai_addr)->sin_addr;
    } else if (at->ai_family == AF_INET6) {
      raw = &reinterpret_cast<const sockaddr_in6*>(at->ai_addr)->sin6_addr;
    }
    if (raw == nullptr || inet_ntop(at->ai_family, raw, text, sizeof(text)) == nullptr) continue;
    if (std::find(addresses.begin(), addresses.end(), text) == addresses.end()) {
      addresses.emplace_back(text);
    }
  }
  freeaddrinfo(found);
  if (addresses.empty()) {
    return Fail(Code::kUnavailable, fmt::format("cannot resolve {}: no address", host));
  }
  return addresses;
}

// Shared with the threads, which may outlive the resolver while a lookup hangs.
struct NameResolver::State {
  explicit State(NameLookup how) : lookup(std::move(how)) {}

  void Work() EXCLUDES(mutex) {
    NameThread("dns");
    mutex.Lock();
    while (true) {
      ++idle;
      while (!stopped && queue.empty()) changed.Wait(mutex);
      --idle;
      if (stopped) break;
      auto [host, done] = std::move(queue.front());
      queue.pop_front();
      mutex.Unlock();
      auto answer = lookup(host);
      mutex.Lock();
      if (stopped) break;
      ++calling;
      mutex.Unlock();
      done(std::move(answer));
      done = nullptr;
      mutex.Lock();
      --calling;
      changed.NotifyAll();
    }
    --threads;
    changed.NotifyAll();
    mutex.Unlock();
  }

  const NameLookup lookup;
  Mutex mutex;
  CondVar changed;
  std::deque<std::pair<std::string, Done>> queue GUARDED_BY(mutex);
  size_t threads GUARDED_BY(mutex) = 0;
  size_t idle GUARDED_BY(mutex) = 0;     // of them, waiting for a question
  size_t calling GUARDED_BY(mutex) = 0;  // threads inside a `done`
  bool stopped GUARDED_BY(mutex) = false;
};

NameResolver::NameResolver(NameLookup lookup)
    : state_(std::make_shared<State>(std::move(lookup))) {}

NameResolver::~NameResolver() {
  Stop();
}

void NameResolver::Resolve(std::string host, Done done) {
  MutexLock lock(state_->mutex);
  if (state_->stopped) return;
  state_->queue.emplace_back(std::move(host), std::move(done));
  if (state_->threads < kThreads && state_->idle < state_->queue.size()) {
    ++state_->threads;
    std::thread([state = state_] { state->Work(); }).detach();
  }
  state_->changed.NotifyOne();
}

void NameResolver::Stop() {
  State& state = *state_;
  const auto patience = std::chrono::steady_clock::now() + kStopPatience;
  MutexLock lock(state.mutex);
  state.stopped = true;
  state.queue.clear();
  state.changed.NotifyAll();
  while (state.calling > 0) state.changed.Wait(state.mutex);
  while (state.threads > 0) {
    if (!state.changed.WaitUntil(state.mutex, patience)) return;
  }
}

}  // namespace warmpath::fleet
