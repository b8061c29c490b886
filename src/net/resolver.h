// Internal to net: names to addresses on a thread of its own, started by the first question: the
// system's resolver blocks. Loop-confined; one per loop.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/system/error_code.hpp>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "net/address.h"

namespace warmpath::net {

class Resolver {
 public:
  using Endpoints = std::vector<boost::asio::ip::tcp::endpoint>;
  // Called on the resolver's thread.
  using Done = std::function<void(boost::system::error_code, Endpoints)>;

  Resolver() = default;
  ~Resolver();  // waits for the question at hand; those that wait are dropped
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;

  // Asked in order. `wanted` gone by its turn: passed over.
  void Resolve(HostPort name, std::weak_ptr<const void> wanted, Done done) EXCLUDES(mutex_);

 private:
  struct Question {
    HostPort name;
    std::weak_ptr<const void> wanted;
    Done done;
  };
  void Work() EXCLUDES(mutex_);

  std::thread thread_;
  Mutex mutex_;
  CondVar changed_;
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::deque<Question> questions_ GUARDED_BY(mutex_);
};

}  // namespace warmpath::net
