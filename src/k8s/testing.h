// For tests of k8s and of what stands on it: timers that a ManualClock drives, and an API server in
// memory. Neither has a thread: nothing happens but inside ManualTimers::Advance.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "codec/json.h"
#include "k8s/api.h"
#include "net/http.h"

namespace warmpath::k8s::testing {

class ManualTimers final : public Timers {
 public:
  explicit ManualTimers(ManualClock& clock) : clock_(clock) {}

  std::shared_ptr<void> After(Duration delay, std::function<void()> fire) override {
    auto entry = std::make_shared<std::function<void()>>(std::move(fire));
    queue_[{clock_.Now() + std::max(delay, Duration::zero()), ++order_}] = entry;
    return entry;
  }

  // Moves the clock on, running what falls due at its own time and in order, also what that sets.
  void Advance(Duration by) {
    const TimePoint until = clock_.Now() + by;
    for (size_t fired = 0; !queue_.empty() && queue_.begin()->first.first <= until; ++fired) {
      if (fired == kMostFired) {
        std::fputs("ManualTimers: a timer sets itself without end\n", stderr);
        std::abort();
      }
      const auto due = queue_.extract(queue_.begin());
      const auto entry = due.mapped().lock();
      if (!entry) continue;
      clock_.Advance(std::max(due.key().first - clock_.Now(), Duration::zero()));
      const auto fire = std::move(*entry);
      fire();
    }
    clock_.Advance(until - clock_.Now());
  }
  // What is due now.
  void Settle() { Advance(Duration::zero()); }
  // How long until the next timer; nullopt without one.
  std::optional<Duration> Next() const {
    for (const auto& [key, entry] : queue_) {
      if (!entry.expired()) return key.first - clock_.Now();
    }
    return std::nullopt;
  }

 private:
  static constexpr size_t kMostFired = 1'000'000;
  ManualClock& clock_;
  uint64_t order_ = 0;
  std::map<std::pair<TimePoint, uint64_t>, std::weak_ptr<std::function<void()>>> queue_;
};

// Holds the objects of collections ("/api/v1/namespaces/ns/pods") and answers as an API server
// does: GET of a collection (pages too), GET of one object, WATCH with history and selectors, 410
// for what Compact forgot, 404 for collections nobody added. Answers come in the Advance after the
// request. Outlives its calls.
class FakeApi final : public Api {
 public:
  static constexpr int kRefused = 0;  // as a status: no connection
  static constexpr int kSilent = -1;  // no answer, ever
  static constexpr int kForever = -1;

  explicit FakeApi(ManualTimers& timers) : timers_(timers) {}

  // ---- what the server holds

  void AddCollection(const std::string& path) { collections_[path]; }
  // Requests of it are answered 404; its watches go on until EndWatches.
  void RemoveCollection(const std::string& path) { collections_.erase(path); }
  // Adds or replaces, by metadata.name; gives it a resourceVersion, and a uid if it has none.
  void Put(const std::string& collection, std::string_view object) {
    PutObject(collection, codec::ParseJson(object).value());
  }
  void PutObject(const std::string& collection, codec::Json object) {
    auto& meta = object.as_object()["metadata"].as_object();
    meta["resourceVersion"] = std::to_string(++version_);
    if (!meta.contains("uid")) meta["uid"] = "uid-" + std::to_string(version_);
    const std::string name(meta["name"].as_string());
    auto& kept = collections_[collection];
    const auto old = kept.objects.find(name);
    const std::optional<codec::Json> before =
        old == kept.objects.end() ? std::nullopt : std::optional(old->second);
    kept.objects[name] = object;
    Record(collection, {version_, before, std::move(object)});
  }
  void Remove(const std::string& collection, const std::string& name) {
    auto& kept = collections_[collection];
    const auto found = kept.objects.find(name);
    if (found == kept.objects.end()) return;
    codec::Json last = std::move(found->second);
    kept.objects.erase(found);
    last.as_object()["metadata"].as_object()["resourceVersion"] = std::to_string(++version_);
    Record(collection, {version_, std::move(last), std::nullopt});
  }
  // What happened so far cannot be watched from any more.
  void Compact() {
    for (auto& [path, kept] : collections_) kept.history.clear();
    compacted_ = version_;
  }
  uint64_t version() const { return version_; }
  size_t page_size = 0;    // of lists with a limit; 0: whole
  size_t chunk_bytes = 0;  // of streams; 0: whole

  // ---- what it says on the watches of a collection

  void Bookmark(const std::string& collection) {
    Push(collection, R"({"type":"BOOKMARK","object":{"metadata":{"resourceVersion":")" +
                         std::to_string(version_) + "\"}}}\n");
  }
  // An event of type ERROR, which ends the watches.
  void PushError(const std::string& collection, int code, const std::string& reason) {
    Push(collection, R"({"type":"ERROR","object":)" + StatusBody(code, reason) + "}\n");
    EndWatches(collection);
  }
  // Bytes as they are.
  void Push(const std::string& collection, const std::string& bytes) {
    ForWatches(collection, [&](Flow& watch) { Write(watch, bytes); });
  }
  // The server's regular end.
  void EndWatches(const std::string& collection) {
    ForWatches(collection, [&](Flow& watch) { End(watch, {}); });
  }
  void BreakWatches(const std::string& collection) {
    ForWatches(collection,
               [&](Flow& watch) { End(watch, Fail(Code::kUnavailable, "connection reset")); });
  }
  size_t watches(const std::string& collection) {
    size_t count = 0;
    ForWatches(collection, [&](Flow&) { ++count; });
    return count;
  }

  // ---- how it fails

  struct Fault {
    std::string prefix;  // of the path
    int status = kRefused;
    Duration retry_after{};
    int times = kForever;
    std::optional<bool> watch = std::nullopt;  // only watches, or only what is none
  };
  void AddFault(Fault fault) { faults_.push_back(std::move(fault)); }
  void ClearFaults() { faults_.clear(); }
  // Gone: watches break, nothing connects.
  void SetDown(bool down) {
    down_ = down;
    if (!down) return;
    for (auto& [path, kept] : collections_) BreakWatches(path);
  }

  // Asked before the collections (POST, PUT, anything); nullopt: go on with them.
  std::function<std::optional<Result<ApiAnswer>>(const ApiRequest& request)> handler;
  std::vector<ApiRequest> requests;  // all of them
  size_t CountRequests(std::string_view part_of_path) const {
    return static_cast<size_t>(std::ranges::count_if(requests, [&](const ApiRequest& request) {
      return request.path.find(part_of_path) != std::string::npos;
    }));
  }

  static std::string StatusBody(int code, const std::string& reason) {
    return R"({"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":")" +
           reason + R"(","reason":")" + reason + R"(","code":)" + std::to_string(code) + "}";
  }

  // ---- Api

  std::unique_ptr<ApiCall> Send(ApiRequest request,
                                std::function<void(Result<ApiAnswer>)> done) override {
    auto flow = std::make_shared<Flow>();
    if (auto answer = Answer(request)) {
      Deliver(*flow, [done = std::move(done), answer = std::move(*answer)] { done(answer); });
    }
    requests.push_back(std::move(request));
    return std::make_unique<Call>(std::move(flow));
  }

  std::unique_ptr<ApiCall> Stream(ApiRequest request, StreamHandlers handlers) override {
    auto flow = std::make_shared<Flow>();
    flow->handlers = std::make_shared<StreamHandlers>(std::move(handlers));
    if (net::QueryParameter(Split(request.path).second, "watch")) {
      StartWatch(flow, request);
    } else if (auto answer = Answer(request)) {
      Finish(*flow, std::move(*answer));
    }
    requests.push_back(std::move(request));
    return std::make_unique<Call>(std::move(flow));
  }

 private:
  // Before and after: what decides how a watch with a selector sees it.
  struct Change {
    uint64_t version = 0;
    std::optional<codec::Json> before, after;
  };
  struct Collection {
    std::map<std::string, codec::Json> objects;
    std::vector<Change> history;
  };
  struct Flow : std::enable_shared_from_this<Flow> {
    std::shared_ptr<StreamHandlers> handlers;
    std::string collection, query;
    bool watching = false;
    std::deque<std::function<void()>> outbox;
    std::shared_ptr<void> drain;
  };
  struct Call final : ApiCall {
    explicit Call(std::shared_ptr<Flow> f) : flow(std::move(f)) {}
    ~Call() override {
      flow->watching = false;
      flow->outbox.clear();
      flow->drain.reset();
    }
    const std::shared_ptr<Flow> flow;
  };

  static std::pair<std::string, std::string> Split(const std::string& path) {
    const size_t mark = path.find('?');
    return {path.substr(0, mark), mark == path.npos ? "" : path.substr(mark + 1)};
  }

  // ---- delivering

  void Deliver(Flow& flow, std::function<void()> what) {
    flow.outbox.push_back(std::move(what));
    if (!flow.drain) Schedule(flow);
  }
  void Schedule(Flow& flow) {
    flow.drain = timers_.After(Duration::zero(), [this, weak = flow.weak_from_this()] {
      const auto self = weak.lock();
      if (!self || self->outbox.empty()) return;
      const auto what = std::move(self->outbox.front());
      self->outbox.pop_front();
      self->drain.reset();
      if (!self->outbox.empty()) Schedule(*self);
      what();
    });
  }
  void Write(Flow& flow, const std::string& bytes) {
    const size_t step = chunk_bytes != 0 ? chunk_bytes : std::max<size_t>(bytes.size(), 1);
    for (size_t at = 0; at < bytes.size(); at += step) {
      Deliver(flow, [handlers = flow.handlers, part = bytes.substr(at, step)] {
        if (handlers->on_data) handlers->on_data(part);
      });
    }
  }
  void End(Flow& flow, Status status) {
    flow.watching = false;
    Deliver(flow, [handlers = flow.handlers, status = std::move(status)] {
      if (handlers->on_end) handlers->on_end(status);
    });
  }
  void Head(Flow& flow, ApiAnswer answer) {
    Deliver(flow, [handlers = flow.handlers, answer = std::move(answer)] {
      if (handlers->on_head) handlers->on_head(answer);
    });
  }
  void Finish(Flow& flow, Result<ApiAnswer> answer) {
    if (!answer) {
      End(flow, tl::unexpected(answer.error()));
      return;
    }
    std::string body;
    if (answer->status == 200) body = std::exchange(answer->body, {});
    Head(flow, std::move(*answer));
    Write(flow, body);
    End(flow, {});
  }

  // ---- answering

  // nullopt: none, ever.
  std::optional<Result<ApiAnswer>> Faulty(const std::string& path, bool watch, bool& faulty) {
    faulty = true;
    if (down_) return Fail(Code::kUnavailable, "connection refused");
    for (Fault& fault : faults_) {
      if (!path.starts_with(fault.prefix) || fault.times == 0) continue;
      if (fault.watch && *fault.watch != watch) continue;
      if (fault.times > 0) --fault.times;
      if (fault.status == kSilent) return std::nullopt;
      if (fault.status == kRefused) return Fail(Code::kUnavailable, "connection refused");
      return ApiAnswer{fault.status, fault.retry_after,
                       StatusBody(fault.status, "fault " + std::to_string(fault.status))};
    }
    faulty = false;
    return std::nullopt;
  }

  std::optional<Result<ApiAnswer>> Answer(const ApiRequest& request) {
    const auto [path, query] = Split(request.path);
    bool faulty = false;
    auto fault = Faulty(path, /*watch=*/false, faulty);
    if (faulty) return fault;
    if (handler) {
      if (auto answer = handler(request)) return answer;
    }
    if (request.method != "GET") return ApiAnswer{405, {}, StatusBody(405, "MethodNotAllowed")};
    if (const auto found = collections_.find(path); found != collections_.end()) {
      return List(found->second, query);
    }
    const size_t slash = path.rfind('/');
    if (slash != path.npos) {
      const auto parent = collections_.find(path.substr(0, slash));
      if (parent != collections_.end()) {
        const auto object = parent->second.objects.find(path.substr(slash + 1));
        if (object != parent->second.objects.end()) {
          return ApiAnswer{200, {}, codec::DumpJson(object->second)};
        }
      }
    }
    return ApiAnswer{404, {}, StatusBody(404, "NotFound")};
  }

  // Pages go by name: the token is "<version>/<first name>". As the real one, it does not page what
  // it is asked for with resourceVersion=0.
  ApiAnswer List(const Collection& collection, const std::string& query) {
    const auto limit = net::QueryParameter(query, "limit");
    const auto token = net::QueryParameter(query, "continue");
    const bool cached = net::QueryParameter(query, "resourceVersion") == "0";
    const size_t most = limit && !cached && page_size != 0 ? page_size : SIZE_MAX;
    std::string first, version = std::to_string(version_);
    if (token) {
      const size_t slash = token->find('/');
      version = token->substr(0, slash);
      first = token->substr(slash + 1);
      if (std::strtoull(version.c_str(), nullptr, 10) < compacted_)
        return {410, {}, StatusBody(410, "Expired")};
    }
    std::string items, next;
    size_t count = 0;
    for (const auto& [name, object] : collection.objects) {
      if (name < first || !Selected(object, query)) continue;
      if (count++ == most) {
        next = version + "/" + name;
        break;
      }
      if (!items.empty()) items += ',';
      items += codec::DumpJson(object);
    }
    return {200,
            {},
            R"({"kind":"List","apiVersion":"v1","metadata":{"resourceVersion":")" + version + "\"" +
                (next.empty() ? "" : R"(,"continue":")" + next + "\"") + R"(},"items":[)" + items +
                "]}\n"};
  }

  void StartWatch(const std::shared_ptr<Flow>& flow, const ApiRequest& request) {
    std::tie(flow->collection, flow->query) = Split(request.path);
    bool faulty = false;
    auto fault = Faulty(flow->collection, /*watch=*/true, faulty);
    if (faulty) {
      if (fault) Finish(*flow, std::move(*fault));
      return;
    }
    const auto found = collections_.find(flow->collection);
    if (found == collections_.end()) {
      Finish(*flow, ApiAnswer{404, {}, StatusBody(404, "NotFound")});
      return;
    }
    const auto version = net::QueryParameter(flow->query, "resourceVersion");
    const uint64_t from =
        version && !version->empty() ? std::strtoull(version->c_str(), nullptr, 10) : version_;
    if (from < compacted_) {
      Finish(*flow, ApiAnswer{410, {}, StatusBody(410, "Expired")});
      return;
    }
    Head(*flow, ApiAnswer{200, {}, {}});
    flow->watching = true;
    std::erase_if(flows_, [](const auto& weak) { return weak.expired(); });
    flows_.push_back(flow);
    for (const Change& change : found->second.history) {
      if (change.version > from) Tell(*flow, change);
    }
  }

  void Record(const std::string& collection, Change change) {
    ForWatches(collection, [&](Flow& watch) { Tell(watch, change); });
    collections_[collection].history.push_back(std::move(change));
  }
  void Tell(Flow& watch, const Change& change) {
    const bool was = change.before && Selected(*change.before, watch.query);
    const bool is = change.after && Selected(*change.after, watch.query);
    if (!was && !is) return;
    const codec::Json& object = change.after ? *change.after : *change.before;
    Write(watch, std::string(R"({"type":")") + (is ? was ? "MODIFIED" : "ADDED" : "DELETED") +
                     R"(","object":)" + codec::DumpJson(object) + "}\n");
  }
  template <typename Do>
  void ForWatches(const std::string& collection, Do act) {
    for (const auto& weak : std::vector(flows_)) {
      const auto flow = weak.lock();
      if (flow && flow->watching && flow->collection == collection) act(*flow);
    }
  }

  // k=v, k==v and k!=v of labels, metadata.name=v of fields; other requirements hold always.
  static bool Selected(const codec::Json& object, const std::string& query) {
    const codec::Json* meta = codec::Find(object, "metadata");
    const codec::Json* labels = meta != nullptr ? codec::Find(*meta, "labels") : nullptr;
    const auto holds = [](std::string_view requirement, auto value_of) {
      const size_t sign = requirement.find('=');
      if (sign == requirement.npos) return true;
      const bool negated = sign > 0 && requirement[sign - 1] == '!';
      const std::string_view key = requirement.substr(0, negated ? sign - 1 : sign);
      const size_t value = requirement.find_first_not_of('=', sign);
      const std::string_view wanted = value == requirement.npos ? "" : requirement.substr(value);
      return (value_of(key) == wanted) != negated;
    };
    const auto all = [&](std::string_view selector, auto value_of) {
      while (!selector.empty()) {
        const size_t comma = selector.find(',');
        if (!holds(selector.substr(0, comma), value_of)) return false;
        selector = comma == selector.npos ? "" : selector.substr(comma + 1);
      }
      return true;
    };
    using Value = std::optional<std::string_view>;
    return all(net::QueryParameter(query, "labelSelector").value_or(""),
               [&](std::string_view key) -> Value {
                 return labels != nullptr ? codec::FindString(*labels, key) : std::nullopt;
               }) &&
           all(net::QueryParameter(query, "fieldSelector").value_or(""),
               [&](std::string_view key) -> Value {
                 const size_t dot = key.find('.');
                 return codec::FindString(*meta, key.substr(dot == key.npos ? 0 : dot + 1));
               });
  }

  ManualTimers& timers_;
  std::map<std::string, Collection> collections_;
  std::vector<std::weak_ptr<Flow>> flows_;
  uint64_t version_ = 100;
  uint64_t compacted_ = 0;
  std::vector<Fault> faults_;
  bool down_ = false;
};

}  // namespace warmpath::k8s::testing
