#include "k8s/reflector.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "base/log.h"
#include "k8s/back_off.h"
#include "k8s/json_stream.h"
#include "k8s/metrics.h"
#include "net/percent.h"

namespace warmpath::k8s {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

// Bounds of what a server may send. etcd takes no object above 1.5 MiB.
constexpr size_t kMaxObjectBytes = size_t{8} << 20;
constexpr size_t kMaxFrameBytes = size_t{1} << 20;
constexpr size_t kMaxItems = 200'000;  // of a list, all pages together
constexpr int kPageSize = 500;
constexpr int kMaxPages = 2000;

constexpr Duration kListTimeout = minutes(5);                  // of one page
constexpr int kWatchTimeoutMin = 300, kWatchTimeoutMax = 600;  // seconds, asked of the server
constexpr Duration kWatchGrace = seconds(30);                  // beyond that the watch is cut
// Bookmarks come about once a minute.
constexpr Duration kSilence = seconds(150);
// A watch that broke sooner failed; after it a server counts as back.
constexpr Duration kSettled = seconds(2);
constexpr Duration kRewatchJitter = milliseconds(500);

constexpr Duration kBackOffFirst = milliseconds(800), kBackOffMost = seconds(30);
constexpr Duration kBackOffForget = minutes(2);
// A server that starts may deny what it will allow, and lack what it will have.
constexpr Duration kSlowFirst = seconds(10), kSlowMost = seconds(60), kSlowForget = minutes(5);
constexpr Duration kMaxRetryAfter = minutes(5);

void AddQuery(std::string& path, std::string_view name, std::string_view value) {
  path += fmt::format("{}{}={}", path.find('?') == path.npos ? '?' : '&', name,
                      net::PercentEncode(value));
}

std::string_view VersionOf(const codec::Json& object) {
  const codec::Json* meta = codec::Find(object, "metadata");
  return meta != nullptr ? codec::FindString(*meta, "resourceVersion").value_or("") : "";
}

Result<codec::Json> ParseObject(std::string_view text) {
  return codec::ParseJson(text, {.max_bytes = kMaxObjectBytes});
}

class ReflectorImpl final : public Reflector {
 public:
  ReflectorImpl(Api& api, Timers& timers, const Clock& clock, Registry& metrics, Resource resource,
                ObjectSink& sink, uint64_t seed)
      : api_(api),
        timers_(timers),
        clock_(clock),
        resource_(std::move(resource)),
        sink_(sink),
        metrics_(metrics, clock, resource_.kind),
        jitter_(seed) {}
  ~ReflectorImpl() override { Stop(); }

  void Start() override {
    if (std::exchange(running_, true)) return;
    Go();
  }

  void Stop() override {
    running_ = false;
    DropCall();
    wait_.reset();
  }

  const ReflectorStatus& status() const override { return status_; }

 private:
  void Go() {
    wait_.reset();
    if (list_needed_) {
      token_.clear();
      items_before_ = 0;
      pages_ = 0;
      list_begun_ = false;
      ListPage();
    } else {
      Watch();
    }
  }
  void GoAfter(Duration delay) {
    DropCall();
    if (!running_) return;
    wait_ = timers_.After(delay, [this] { Go(); });
  }
  void DropCall() {
    call_.reset();
    limit_.reset();
    silence_.reset();
    settle_.reset();
  }

  // ---- list

  void ListPage() {
    ApiRequest request;
    request.path = Selected();
    if (!whole_list_) AddQuery(request.path, "limit", std::to_string(kPageSize));
    // The first may come from the server's cache; one after an expired watch may not.
    if (!token_.empty()) {
      AddQuery(request.path, "continue", token_);
    } else if (!status_.listed) {
      AddQuery(request.path, "resourceVersion", "0");
    }
    list_.emplace(ListSplitter::Limits{kMaxObjectBytes, kMaxItems, kMaxFrameBytes});
    call_ = api_.Stream(std::move(request), {[this](ApiAnswer head) { OnListHead(head); },
                                             [this](std::string_view bytes) { OnListData(bytes); },
                                             [this](const Status& end) { OnListEnd(end); }});
    limit_ = timers_.After(kListTimeout, [this] { Failed("the list takes too long"); });
  }

  void OnListHead(const ApiAnswer& head) {
    if (head.status != 200) {
      Refused(head);
    } else if (!std::exchange(list_begun_, true)) {
      sink_.ListBegin();
    }
  }

  void OnListData(std::string_view bytes) {
    std::string wrong;
    const Status fed = list_->Feed(bytes, [&](std::string_view text) {
      auto item = ParseObject(text);
      if (!item) {
        wrong = item.error().message;
      } else if (items_before_ + list_->items() > kMaxItems) {
        wrong = fmt::format("more than {} items", kMaxItems);
      } else {
        sink_.Upsert(*item);
        return running_;
      }
      return false;
    });
    if (!running_) return;
    if (!fed) wrong = fed.error().message;
    if (!wrong.empty()) Failed("malformed list: " + wrong);
  }

  void OnListEnd(const Status& end) {
    if (!end) {
      Failed(end.error().message);
      return;
    }
    const auto frame = list_->Finish();
    const auto parsed = frame ? ParseObject(*frame) : tl::unexpected(frame.error());
    if (!parsed) {
      Failed("malformed list: " + parsed.error().message);
      return;
    }
    const std::string_view version = VersionOf(*parsed);
    const codec::Json* items = codec::Find(*parsed, "items");
    if (version.empty() || items == nullptr || !(items->is_array() || items->is_null())) {
      Failed("malformed list: no items, or no resourceVersion");
      return;
    }
    items_before_ += list_->items();
    token_ = codec::FindString(*codec::Find(*parsed, "metadata"), "continue").value_or("");
    if (!token_.empty()) {
      if (++pages_ == kMaxPages) {
        Failed(fmt::format("malformed list: more than {} pages", kMaxPages));
        return;
      }
      DropCall();
      ListPage();
      return;
    }
    version_ = version;
    DropCall();
    list_.reset();
    list_needed_ = whole_list_ = false;
    status_.listed = true;
    ++status_.lists;
    metrics_.lists.Add();
    Contact();
    sink_.ListEnd();
    if (!running_) return;
    // What broke while watching is back when a watch has lasted.
    if (status_.state != KindState::kDisconnected) Enter(KindState::kSynced, "");
    if (running_) Watch();
  }

  // ---- watch

  void Watch() {
    const auto timeout =
        seconds(kWatchTimeoutMin +
                static_cast<int>(jitter_.Fraction() * (kWatchTimeoutMax - kWatchTimeoutMin + 1)));
    ApiRequest request;
    request.path = Selected();
    AddQuery(request.path, "watch", "1");
    AddQuery(request.path, "resourceVersion", version_);
    AddQuery(request.path, "allowWatchBookmarks", "true");
    AddQuery(request.path, "timeoutSeconds", std::to_string(timeout.count()));
    request.idle_timeout = kSilence + kWatchGrace;  // ours, below, comes first
    if (std::exchange(watched_, true)) metrics_.restarts.Add();
    documents_.emplace(kMaxObjectBytes);
    watch_began_.reset();
    seen_ = 0;
    call_ = api_.Stream(std::move(request), {[this](ApiAnswer head) { OnWatchHead(head); },
                                             [this](std::string_view bytes) { OnWatchData(bytes); },
                                             [this](const Status& end) { OnWatchEnd(end); }});
    limit_ = timers_.After(timeout + kWatchGrace, [this] { GoAfter(Soon()); });
  }

  void OnWatchHead(const ApiAnswer& head) {
    if (head.status != 200) {
      Refused(head);
      return;
    }
    last_read_ = clock_.Now();
    watch_began_ = last_read_;
    Contact();
    settle_ = timers_.After(kSettled, [this] { Enter(KindState::kSynced, ""); });
    ListenFor(kSilence);
  }

  void ListenFor(Duration time) {
    silence_ = timers_.After(time, [this] {
      const Duration left = last_read_ + kSilence - clock_.Now();
      if (left > Duration::zero()) {
        ListenFor(left);
      } else {
        // The new watch tells whether the server is there.
        GoAfter(Soon());
      }
    });
  }

  void OnWatchData(std::string_view bytes) {
    last_read_ = clock_.Now();
    bool handled = true;
    const Status fed = documents_->Feed(bytes, [&](std::string_view text) {
      handled = OnDocument(text);
      return handled;
    });
    if (!fed) Malformed(fed.error().message);
  }

  void OnWatchEnd(const Status& end) {
    const bool lasted = watch_began_ && clock_.Now() - *watch_began_ >= kSettled;
    if (lasted || (end && seen_ > 0)) {
      GoAfter(Soon());
    } else {
      Failed(end ? "the watch ended at once" : end.error().message);
    }
  }

  // False: this watch is over.
  bool OnDocument(std::string_view text) {
    const auto event = ParseObject(text);
    if (!event) return Malformed(event.error().message);
    const auto type = codec::FindString(*event, "type");
    const codec::Json* object = codec::Find(*event, "object");
    if (!type || object == nullptr || !object->is_object()) {
      return Malformed("an event without type or object");
    }
    if (*type == "ERROR") return OnErrorEvent(*object);
    const std::string_view version = VersionOf(*object);
    if (version.empty()) return Malformed("an object without resourceVersion");
    const bool deleted = *type == "DELETED";
    if (deleted || *type == "ADDED" || *type == "MODIFIED") {
      ++status_.events;
      metrics_.events.Add();
      version_ = version;
      Progress();
      if (deleted) {
        sink_.Delete(*object);
      } else {
        sink_.Upsert(*object);
      }
      return running_;
    }
    if (*type != "BOOKMARK") return true;  // of a kind not known yet
    version_ = version;
    Progress();
    return true;
  }

  bool OnErrorEvent(const codec::Json& object) {
    const int64_t code = codec::FindInt(object, "code").value_or(0);
    const std::string_view reason = codec::FindString(object, "reason").value_or("");
    if (code == 410 || reason == "Expired" || reason == "Gone") {
      Expired();
      return false;
    }
    const codec::Json* details = codec::Find(object, "details");
    const int64_t wait =
        details != nullptr ? codec::FindInt(*details, "retryAfterSeconds").value_or(0) : 0;
    ApiAnswer told{static_cast<int>(code), {}, codec::DumpJson(object)};
    if (wait > 0 && wait < 86'400) told.retry_after = seconds(wait);
    Failed(AnswerError(told), told.retry_after);
    return false;
  }

  void Progress() {
    ++seen_;
    expired_ = 0;
    Contact();
  }

  // ---- what goes wrong

  bool Malformed(const std::string& what) {
    list_needed_ = true;
    Failed("malformed watch: " + what);
    return false;
  }

  // The version to go on from is gone: a list tells what was missed.
  void Expired() {
    if (list_needed_) whole_list_ = true;  // it expired between two pages
    list_needed_ = true;
    const bool again = ++expired_ > 1;
    GoAfter(again ? back_off_.Next(clock_.Now(), jitter_) : Soon());
  }

  void Refused(const ApiAnswer& answer) {
    switch (answer.status) {
      case 410:
        Expired();
        break;
      case 403:
        LeaveOut(KindState::kForbidden, AnswerError(answer));
        break;
      case 404:
        // What a kind comes back with has nothing to do with what it left with.
        list_needed_ = true;
        LeaveOut(KindState::kAbsent, AnswerError(answer));
        break;
      default:
        Failed(AnswerError(answer), answer.retry_after);
    }
  }

  void LeaveOut(KindState state, const std::string& why) {
    CountFailure(why);
    if (status_.state != state) slow_.Reset();
    const Duration wait = slow_.Next(clock_.Now(), jitter_);
    Enter(state, why);
    GoAfter(wait);
  }

  void Failed(const std::string& why, Duration retry_after = {}) {
    CountFailure(why);
    Duration wait = back_off_.Next(clock_.Now(), jitter_);
    if (retry_after > Duration::zero()) {
      const Duration told = std::min(retry_after, kMaxRetryAfter);
      wait = std::max(wait, jitter_.Between(told, told + told / 10));
    }
    Enter(status_.listed ? KindState::kDisconnected : KindState::kListing, why);
    GoAfter(wait);
  }

  void CountFailure(const std::string& why) {
    DropCall();
    ++status_.failures;
    metrics_.failures.Add();
    status_.error = why;
  }

  // ---- telling

  void Contact() {
    status_.last_contact = clock_.Now();
    metrics_.Contact(status_.last_contact);
  }

  // The sink is told of every new state and reason; the log of states, and of what keeps the first
  // list from coming.
  void Enter(KindState state, const std::string& why) {
    if (state == KindState::kSynced) status_.error.clear();
    const KindState before = std::exchange(status_.state, state);
    if (before == state && told_ == why) return;
    told_ = why;
    if (before != state || state == KindState::kListing) Log(state, why);
    sink_.StatusChanged(status_);
  }

  void Log(KindState state, const std::string& why) const {
    switch (state) {
      case KindState::kListing:
        WP_LOG(kWarn, "kubernetes", "kind cannot be listed yet", {"kind", resource_.kind},
               {"error", why});
        break;
      case KindState::kSynced:
        WP_LOG(kInfo, "kubernetes", "kind is in step", {"kind", resource_.kind});
        break;
      case KindState::kDisconnected:
        WP_LOG(kWarn, "kubernetes", "kind cannot be watched, what is known stays",
               {"kind", resource_.kind}, {"error", why});
        break;
      case KindState::kForbidden:
        WP_LOG(kWarn, "kubernetes", "kind is forbidden and left out", {"kind", resource_.kind},
               {"error", why});
        break;
      case KindState::kAbsent:
        WP_LOG(kWarn, "kubernetes", "server does not have the kind, it is left out",
               {"kind", resource_.kind}, {"error", why});
        break;
    }
  }

  Duration Soon() { return jitter_.Between(Duration::zero(), kRewatchJitter); }

  std::string Selected() const {
    std::string path = resource_.path;
    if (!resource_.label_selector.empty()) {
      AddQuery(path, "labelSelector", resource_.label_selector);
    }
    if (!resource_.field_selector.empty()) {
      AddQuery(path, "fieldSelector", resource_.field_selector);
    }
    return path;
  }

  Api& api_;
  Timers& timers_;
  const Clock& clock_;
  const Resource resource_;
  ObjectSink& sink_;
  const KindMetrics metrics_;
  Jitter jitter_;
  BackOff back_off_{kBackOffFirst, kBackOffMost, kBackOffForget};
  BackOff slow_{kSlowFirst, kSlowMost, kSlowForget};

  bool running_ = false;
  ReflectorStatus status_;
  std::optional<std::string> told_;  // the reason the sink knows
  std::string version_;              // to watch from
  bool list_needed_ = true;
  bool whole_list_ = false;  // without pages
  int expired_ = 0;          // in a row

  std::unique_ptr<ApiCall> call_;
  std::shared_ptr<void> wait_, limit_, silence_, settle_;
  std::optional<ListSplitter> list_;
  bool list_begun_ = false;
  std::string token_;  // of the next page
  size_t items_before_ = 0;
  int pages_ = 0;  // before this one
  std::optional<DocumentSplitter> documents_;
  bool watched_ = false;
  std::optional<TimePoint> watch_began_;
  TimePoint last_read_{};
  uint64_t seen_ = 0;  // documents of this watch
};

}  // namespace

std::string_view KindStateName(KindState state) {
  switch (state) {
    case KindState::kListing:
      return "listing";
    case KindState::kSynced:
      return "synced";
    case KindState::kDisconnected:
      return "disconnected";
    case KindState::kForbidden:
      return "forbidden";
    case KindState::kAbsent:
      return "absent";
  }
  return "unknown";
}

std::unique_ptr<Reflector> Reflector::Create(Api& api, Timers& timers, const Clock& clock,
                                             Registry& metrics, Resource resource, ObjectSink& sink,
                                             uint64_t seed) {
  return std::make_unique<ReflectorImpl>(api, timers, clock, metrics, std::move(resource), sink,
                                         seed);
}

}  // namespace warmpath::k8s
