#include "admin/gatekeeper.h"

#include <utility>

#include "admin/api.h"
#include "base/units.h"

namespace warmpath::admin {
namespace {

void Refuse(net::HttpExchange& exchange, AdminAccess access) {
  net::Headers headers{{"Content-Type", "application/json"}, {"Cache-Control", "no-store"}};
  switch (access) {
    case AdminAccess::kUnauthenticated:
      headers.Add("WWW-Authenticate", "Bearer");
      return exchange.Respond(
          401, std::move(headers),
          ErrorBody(401, "a bearer token that the cluster knows is needed", "unauthenticated"));
    case AdminAccess::kForbidden:
      return exchange.Respond(
          403, std::move(headers),
          ErrorBody(403, "the token is known, but may not read this path", "forbidden"));
    case AdminAccess::kAllowed:
    case AdminAccess::kUnavailable:
      break;
  }
  headers.Add("Retry-After", "1");
  exchange.Respond(503, std::move(headers),
                   ErrorBody(503, "the cluster did not say whether this token may read this path",
                             "authorization_unavailable"));
}

}  // namespace

std::string BearerToken(const net::Headers& headers) {
  if (headers.Count("authorization") != 1) return "";
  const std::string_view value = *headers.Get("authorization");
  const size_t space = value.find(' ');
  if (space == value.npos || !EqualsIgnoreCase(value.substr(0, space), "bearer")) return "";
  return std::string(Trim(value.substr(space)));
}

Gatekeeper::Gatekeeper(net::Loop& loop, AdminAuthorize authorize, Duration deadline)
    : loop_(loop), authorize_(std::move(authorize)), deadline_(deadline) {}

void Gatekeeper::Admit(std::shared_ptr<net::HttpExchange> exchange, std::function<void()> pass) {
  const net::HttpRequest& request = exchange->request();
  const std::string path(request.path());
  if (authorize_ == nullptr || path == "/healthz" || path == "/readyz") return pass();
  if (shut_) return Refuse(*exchange, AdminAccess::kUnavailable);
  const uint64_t id = next_++;
  std::string token = BearerToken(request.headers);
  std::string verb = ToLower(request.method);
  Waiting& waiting = waiting_[id];
  waiting.deadline = loop_.After(deadline_, [this, id] { Resolve(id, AdminAccess::kUnavailable); });
  exchange->OnClose([weak = weak_from_this(), id] {
    if (const auto self = weak.lock()) self->waiting_.erase(id);
  });
  waiting.pass = std::move(pass);
  waiting.exchange = std::move(exchange);
  authorize_(std::move(token), std::move(verb), path,
             [weak = weak_from_this(), id](AdminAccess access) {
               if (const auto self = weak.lock()) self->Tell(id, access);
             });
}

void Gatekeeper::Tell(uint64_t id, AdminAccess access) {
  const MutexLock lock(mutex_);
  if (closed_) return;
  loop_.Post([self = shared_from_this(), id, access] { self->Resolve(id, access); });
}

void Gatekeeper::Resolve(uint64_t id, AdminAccess access) {
  const auto node = waiting_.extract(id);
  if (node.empty()) return;
  if (access == AdminAccess::kAllowed && !shut_) return node.mapped().pass();
  Refuse(*node.mapped().exchange, access);
}

void Gatekeeper::Close() {
  const MutexLock lock(mutex_);
  if (std::exchange(closed_, true)) return;
  loop_.Post([self = shared_from_this()] {
    self->shut_ = true;
    while (!self->waiting_.empty()) {
      self->Resolve(self->waiting_.begin()->first, AdminAccess::kUnavailable);
    }
  });
}

}  // namespace warmpath::admin
