#include "net/resolver.h"

#include <netdb.h>

#include <boost/asio/error.hpp>
#include <cstring>
#include <utility>

#include "base/thread.h"

namespace warmpath::net {
namespace {

Resolver::Endpoints Lookup(const HostPort& name, boost::system::error_code& error) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV | AI_ADDRCONFIG;
  addrinfo* found = nullptr;
  const int result =
      getaddrinfo(name.host.c_str(), std::to_string(name.port).c_str(), &hints, &found);
  if (result == EAI_SYSTEM) {
    error = {errno, boost::system::system_category()};
  } else if (result == EAI_AGAIN) {
    error = boost::asio::error::host_not_found_try_again;
  } else if (result != 0) {
    error = boost::asio::error::host_not_found;
  }
  Resolver::Endpoints endpoints;
  if (result != 0) return endpoints;
  for (const addrinfo* entry = found; entry != nullptr; entry = entry->ai_next) {
    boost::asio::ip::tcp::endpoint endpoint;
    if (entry->ai_addrlen > endpoint.capacity()) continue;
    std::memcpy(endpoint.data(), entry->ai_addr, entry->ai_addrlen);
    endpoint.resize(entry->ai_addrlen);
    endpoints.push_back(endpoint);
  }
  freeaddrinfo(found);
  return endpoints;
}

}  // namespace

Resolver::~Resolver() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

void Resolver::Resolve(HostPort name, std::weak_ptr<const void> wanted, Done done) {
  {
    MutexLock lock(mutex_);
    questions_.push_back({std::move(name), std::move(wanted), std::move(done)});
    changed_.NotifyAll();
  }
  if (!thread_.joinable()) thread_ = std::thread([this] { Work(); });
}

void Resolver::Work() {
  NameThread("resolver");
  for (;;) {
    Question question;
    {
      MutexLock lock(mutex_);
      while (questions_.empty() && !stopping_) changed_.Wait(mutex_);
      if (stopping_) return;
      question = std::move(questions_.front());
      questions_.pop_front();
    }
    if (question.wanted.expired()) continue;
    boost::system::error_code error;
    Endpoints endpoints = Lookup(question.name, error);
    question.done(error, std::move(endpoints));
  }
}

}  // namespace warmpath::net
