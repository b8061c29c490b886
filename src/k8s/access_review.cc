#include "k8s/access_review.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "base/hash.h"
#include "base/log.h"
#include "codec/json.h"

namespace warmpath::k8s {
namespace {

using codec::Json;
using codec::JsonObject;

constexpr size_t kMaxTokenBytes = 32 << 10;
constexpr size_t kMaxPathBytes = 4 << 10;
constexpr size_t kMaxAnswerBytes = size_t{1} << 20;
constexpr size_t kMaxKept = 1000;
constexpr size_t kMaxCalls = 64;  // under way
// The server bounds all that we ask, leases and watches too: reviews must not use it up.
constexpr double kCallsPerSecond = 100;
constexpr size_t kMaxWaiting = 1000;  // of all calls together
constexpr Duration kCallTimeout = std::chrono::seconds(5);
constexpr Duration kKeepGrants = std::chrono::seconds(60);
constexpr Duration kKeepRefusals = std::chrono::seconds(10);

// What was found out lately: bounded, the oldest goes first.
template <typename Value>
class Kept {
 public:
  Kept(const Clock& clock, Duration life) : clock_(clock), life_(life) {}

  const Value* Find(const std::string& key) {
    const TimePoint now = clock_.Now();
    while (!order_.empty() && order_.front().until <= now) DropOldest();
    const auto found = values_.find(key);
    return found == values_.end() ? nullptr : &found->second;
  }
  // Of a key that Find does not find.
  void Put(const std::string& key, Value value) {
    if (!values_.emplace(key, std::move(value)).second) return;
    if (order_.size() == kMaxKept) DropOldest();
    order_.push_back({clock_.Now() + life_, key});
  }

 private:
  struct Entry {
    TimePoint until;
    std::string key;
  };
  void DropOldest() {
    values_.erase(order_.front().key);
    order_.pop_front();
  }

  const Clock& clock_;
  const Duration life_;
  std::map<std::string, Value> values_;
  std::deque<Entry> order_;
};

// Of a TokenReview's status.user; what the SubjectAccessReview repeats.
struct Identity {
  JsonObject user;  // as the spec of a SubjectAccessReview wants it: user, uid, groups, extra
};

std::string Digest(const std::string& token) {
  const Sha256Digest digest = Sha256(token);
  return {digest.begin(), digest.end()};
}

std::string ReviewBody(std::string_view group, std::string_view kind, JsonObject spec) {
  return codec::DumpJson(JsonObject{
      {"apiVersion", fmt::format("{}/v1", group)}, {"kind", kind}, {"spec", std::move(spec)}});
}

class AccessReviewerImpl final : public AccessReviewer {
 public:
  AccessReviewerImpl(Api& api, const Clock& clock, Registry& metrics)
      : api_(api),
        clock_(clock),
        identities_(clock, kKeepGrants),
        strangers_(clock, kKeepRefusals),
        allowed_(clock, kKeepGrants),
        forbidden_(clock, kKeepRefusals),
        counters_{AddResult(metrics, "allowed"), AddResult(metrics, "unauthenticated"),
                  AddResult(metrics, "forbidden"), AddResult(metrics, "unavailable")} {}

  void Check(std::string token, std::string verb, std::string path,
             std::function<void(Access)> done) override {
    done = [this, done = std::move(done)](Access access) {
      counters_[static_cast<size_t>(access)].Add();
      done(access);
    };
    if (token.empty() || token.size() > kMaxTokenBytes) return done(Access::kUnauthenticated);
    if (path.size() > kMaxPathBytes) return done(Access::kForbidden);
    const std::string digest = Digest(token);
    if (strangers_.Find(digest) != nullptr) return done(Access::kUnauthenticated);
    if (const Identity* identity = identities_.Find(digest)) {
      return Authorize(digest, *identity, verb, path, std::move(done));
    }
    Ask(
        "token " + digest, "authentication.k8s.io", "TokenReview", "tokenreviews",
        {{"token", std::move(token)}},
        [this, digest](const Json& status) { return Identify(digest, status); },
        [this, digest, verb = std::move(verb), path = std::move(path),
         done = std::move(done)](Access access) mutable {
          if (access != Access::kAllowed) return done(access);
          // It was kept a moment ago, by the call that this one waited for.
          const Identity* identity = identities_.Find(digest);
          if (identity == nullptr) return done(Access::kUnavailable);
          Authorize(digest, *identity, verb, path, std::move(done));
        });
  }

 private:
  using Done = std::function<void(Access)>;
  // Those who wait for one call.
  struct Review {
    std::unique_ptr<ApiCall> call;
    std::vector<Done> waiting;
  };

  static Counter AddResult(Registry& metrics, const std::string& result) {
    return metrics.AddCounter("warmpath_access_reviews_total",
                              "Requests whose bearer token was checked, by what came of it.",
                              {{"result", result}});
  }

  void Authorize(const std::string& digest, const Identity& identity, const std::string& verb,
                 const std::string& path, Done done) {
    const std::string key = fmt::format("{} {} {}", digest, verb, path);
    if (allowed_.Find(key) != nullptr) return done(Access::kAllowed);
    if (forbidden_.Find(key) != nullptr) return done(Access::kForbidden);
    JsonObject spec = identity.user;
    spec["nonResourceAttributes"] = JsonObject{{"path", path}, {"verb", verb}};
    Ask(
        "access " + key, "authorization.k8s.io", "SubjectAccessReview", "subjectaccessreviews",
        std::move(spec),
        [this, key](const Json& status) {
          const bool allowed = codec::FindBool(status, "allowed").value_or(false) &&
                               !codec::FindBool(status, "denied").value_or(false);
          (allowed ? allowed_ : forbidden_).Put(key, true);
          return allowed ? Access::kAllowed : Access::kForbidden;
        },
        std::move(done));
  }

  Access Identify(const std::string& digest, const Json& status) {
    const Json* user = codec::Find(status, "user");
    const auto name = user != nullptr ? codec::FindString(*user, "username") : std::nullopt;
    if (!codec::FindBool(status, "authenticated").value_or(false) || !name || name->empty()) {
      strangers_.Put(digest, true);
      return Access::kUnauthenticated;
    }
    Identity identity;
    identity.user["user"] = *name;
    for (const char* field : {"uid", "groups", "extra"}) {
      if (const Json* value = codec::Find(*user, field)) identity.user[field] = *value;
    }
    identities_.Put(digest, std::move(identity));
    return Access::kAllowed;
  }

  // One call for all who ask the same: `judge` its status once, then everybody is told.
  void Ask(const std::string& key, const std::string& group, const std::string& kind,
           const std::string& plural, JsonObject spec, std::function<Access(const Json&)> judge,
           Done done) {
    const auto found = reviews_.find(key);
    const bool full = waiting_ >= kMaxWaiting || (found == reviews_.end() && !MayCall());
    if (full) return done(Access::kUnavailable);
    ++waiting_;
    if (found != reviews_.end()) return found->second.waiting.push_back(std::move(done));
    Review& review = reviews_[key];
    review.waiting.push_back(std::move(done));
    ApiRequest request;
    request.method = "POST";
    request.path = fmt::format("/apis/{}/v1/{}", group, plural);
    request.body = ReviewBody(group, kind, std::move(spec));
    request.head_timeout = request.idle_timeout = kCallTimeout;
    request.max_body = kMaxAnswerBytes;
    review.call =
        api_.Send(std::move(request),
                  [this, key, plural, judge = std::move(judge)](Result<ApiAnswer> answer) {
                    Finish(key, Judge(plural, answer, judge));
                  });
  }

  // True takes one call of those allowed.
  bool MayCall() {
    const TimePoint now = clock_.Now();
    allowance_ =
        std::min<double>(kMaxCalls, allowance_ + ToSeconds(now - filled_) * kCallsPerSecond);
    filled_ = now;
    if (reviews_.size() >= kMaxCalls || allowance_ < 1) return false;
    allowance_ -= 1;
    return true;
  }

  Access Judge(const std::string& plural, const Result<ApiAnswer>& answer,
               const std::function<Access(const Json&)>& judge) {
    std::string error;
    if (!answer) {
      error = answer.error().message;
    } else if (answer->status != 200 && answer->status != 201) {
      error = AnswerError(*answer);
    } else if (const auto review = codec::ParseJson(answer->body, {.max_bytes = kMaxAnswerBytes})) {
      const Json* status = codec::Find(*review, "status");
      if (status != nullptr && status->is_object()) {
        errors_.erase(plural);
        return judge(*status);
      }
      error = "the answer has no status";
    } else {
      error = review.error().message;
    }
    if (std::exchange(errors_[plural], error) != error) {
      WP_LOG(kWarn, "access", "Bearer tokens cannot be checked", {"resource", plural},
             {"error", error});
    }
    return Access::kUnavailable;
  }

  void Finish(const std::string& key, Access access) {
    const auto node = reviews_.extract(key);
    waiting_ -= node.mapped().waiting.size();
    for (Done& done : node.mapped().waiting) done(access);
  }

  Api& api_;
  const Clock& clock_;
  double allowance_ = kMaxCalls;  // as of filled_
  TimePoint filled_{};
  Kept<Identity> identities_;
  Kept<bool> strangers_, allowed_, forbidden_;
  const Counter counters_[4];  // by Access
  std::map<std::string, Review> reviews_;
  size_t waiting_ = 0;
  std::map<std::string, std::string> errors_;  // by resource, as last logged
};

}  // namespace

std::unique_ptr<AccessReviewer> AccessReviewer::Create(Api& api, const Clock& clock,
                                                       Registry& metrics) {
  return std::make_unique<AccessReviewerImpl>(api, clock, metrics);
}

}  // namespace warmpath::k8s
