#include "k8s/pool_watch.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <random>
#include <utility>

#include "base/log.h"
#include "k8s/kind_store.h"

namespace warmpath::k8s {
namespace {

constexpr Duration kGather = std::chrono::milliseconds(20);
constexpr Duration kGatherLosses = std::chrono::milliseconds(5);
constexpr size_t kMaxPorts = 8;
constexpr size_t kMaxName = 253;

constexpr char kStableGroup[] = "inference.networking.k8s.io";
constexpr char kExperimentalGroup[] = "inference.networking.x-k8s.io";
constexpr char kCanonicalGroup[] = "llm-d.ai";

// A part of a URL's path as it is.
bool IsName(std::string_view text) {
  return !text.empty() && text.size() <= kMaxName && std::ranges::all_of(text, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
  });
}

Status Bad(std::string_view option, std::string_view what) {
  return Fail(Code::kInvalidArgument, fmt::format("{}: {}", option, what));
}

Status Check(const PoolWatchOptions& options) {
  if (!IsName(options.ns)) return Bad("namespace", "is no name of a namespace");
  if (options.pool_name.empty() == options.selector.empty()) {
    return Bad("pool name", "either a pool or a selector of pods must be given");
  }
  if (options.selector.empty()) {
    if (!IsName(options.pool_name)) return Bad("pool name", "is no name of a pool");
    if (options.pool_group != kStableGroup && options.pool_group != kExperimentalGroup) {
      return Bad("pool group", fmt::format("must be {} or {}", kStableGroup, kExperimentalGroup));
    }
    return {};
  }
  if (options.target_ports.empty() || options.target_ports.size() > kMaxPorts ||
      std::ranges::find(options.target_ports, uint16_t{0}) != options.target_ports.end()) {
    return Bad("target ports", fmt::format("must be 1 to {} ports", kMaxPorts));
  }
  return {};
}

template <typename T>
struct Watched {
  std::string group;  // "" for the core's
  std::string kind;
  std::unique_ptr<KindStore<T>> store;
  std::unique_ptr<Reflector> reflector;
};

struct PodsWatched : Watched<Pod> {
  std::string of;  // what they are the pods of: another pool or selector needs another list
  LabelSelector selector;
  std::string pool_version, app_protocol;
  std::vector<uint16_t> target_ports;
};

class PoolWatchImpl final : public PoolWatch {
 public:
  PoolWatchImpl(Api& api, Timers& timers, const Clock& clock, Registry& metrics,
                PoolWatchOptions options,
                std::function<void(std::shared_ptr<const PoolView>)> changed)
      : api_(api),
        timers_(timers),
        clock_(clock),
        metrics_(metrics),
        options_(std::move(options)),
        changed_(std::move(changed)) {}
  ~PoolWatchImpl() override { Stop(); }

  Status Prepare() {
    WP_RETURN_IF_ERROR(Check(options_));
    auto first = std::make_shared<PoolView>();
    if (!options_.selector.empty()) {
      WP_TRY(LabelSelector selector, LabelSelector::Parse(options_.selector));
      for (const uint16_t port : std::exchange(options_.target_ports, {})) {
        if (std::ranges::find(options_.target_ports, port) == options_.target_ports.end()) {
          options_.target_ports.push_back(port);
        }
      }
      next_pods_ = MakePods("selector", std::move(selector));
      next_pods_->app_protocol = first->app_protocol;
      next_pods_->target_ports = first->target_ports = options_.target_ports;
      first->pool_exists = true;
    } else {
      if (options_.pool_group == kStableGroup) pools_.push_back(MakePool(kStableGroup, "v1"));
      pools_.push_back(MakePool(kExperimentalGroup, "v1alpha2"));
      for (const char* group : {kCanonicalGroup, kExperimentalGroup}) {
        objectives_.push_back(
            MakePolicy<InferenceObjective>(group, "inferenceobjectives", &ReadInferenceObjective));
        rewrites_.push_back(MakePolicy<InferenceModelRewrite>(group, "inferencemodelrewrites",
                                                              &ReadInferenceModelRewrite));
      }
    }
    Publish(std::move(first));
    return {};
  }

  void Start() override {
    if (std::exchange(running_, true)) return;
    if (next_pods_) next_pods_->reflector->Start();
    if (pods_) pods_->reflector->Start();
    if (!pools_.empty()) pools_.front().reflector->Start();
    second_pool_started_ = pools_.size() == 1;
    for (auto& kind : objectives_) kind.reflector->Start();
    for (auto& kind : rewrites_) kind.reflector->Start();
  }

  void Stop() override {
    if (!std::exchange(running_, false)) return;
    timer_.reset();
    for (auto& pool : pools_) pool.reflector->Stop();
    for (auto* pods : {&pods_, &next_pods_}) {
      if (*pods) (*pods)->reflector->Stop();
    }
    for (auto& kind : objectives_) kind.reflector->Stop();
    for (auto& kind : rewrites_) kind.reflector->Stop();
  }

  std::shared_ptr<const PoolView> view() const override { return std::atomic_load(&view_); }

 private:
  // ---- what is watched

  template <typename T>
  void Watch(Watched<T>& watched, std::string path, Result<T> (*read)(const codec::Json&),
             typename KindStore<T>::Hooks hooks, const std::string& labels = "",
             const std::string& fields = "") {
    watched.store = std::make_unique<KindStore<T>>(watched.kind, read, std::move(hooks));
    watched.reflector = Reflector::Create(api_, timers_, clock_, metrics_,
                                          {watched.kind, std::move(path), labels, fields},
                                          *watched.store, (uint64_t{random_()} << 32) + random_());
  }

  std::string CustomPath(std::string_view group, std::string_view version,
                         std::string_view plural) const {
    return fmt::format("/apis/{}/{}/namespaces/{}/{}", group, version, options_.ns, plural);
  }

  Watched<InferencePool> MakePool(const std::string& group, std::string_view version) {
    Watched<InferencePool> pool{group, "inferencepools." + group, {}, {}};
    Watch<InferencePool>(
        pool, CustomPath(group, version, "inferencepools"), &ReadInferencePool,
        {[this](const InferencePool& p) { return p.meta.name == options_.pool_name; },
         [this](bool) { PoolChanged(); }, [this] { PoolChanged(), Changed(false); }},
        "", "metadata.name=" + options_.pool_name);
    return pool;
  }

  template <typename T>
  Watched<T> MakePolicy(const std::string& group, const std::string& plural,
                        Result<T> (*read)(const codec::Json&)) {
    Watched<T> policy{group, plural + "." + group, {}, {}};
    Watch<T>(policy, CustomPath(group, "v1alpha2", plural), read,
             {[this](const T& object) {
                return !object.meta.deleting && object.pool.name == options_.pool_name &&
                       object.pool.kind == "InferencePool";
              },
              [this](bool) { Changed(false); },
              [this] {
                ForgetAbsent(objectives_);
                ForgetAbsent(rewrites_);
                Changed(false);
              }});
    return policy;
  }

  // What a kind held that the server no longer has is gone with it.
  template <typename T>
  static void ForgetAbsent(std::vector<Watched<T>>& kinds) {
    for (auto& kind : kinds) {
      if (kind.reflector->status().state == KindState::kAbsent) kind.store->Clear();
    }
  }

  std::unique_ptr<PodsWatched> MakePods(std::string of, LabelSelector selector) {
    auto pods = std::make_unique<PodsWatched>();
    pods->of = std::move(of);
    pods->kind = "pods";
    pods->selector = std::move(selector);
    const PodsWatched* raw = pods.get();
    Watch<Pod>(*pods, fmt::format("/api/v1/namespaces/{}/pods", options_.ns), &ReadPod,
               {[raw](const Pod& pod) { return raw->selector.Matches(pod.meta.labels); },
                [this, raw](bool loss) { PodsChanged(raw, loss); }, [this] { Changed(false); }},
               raw->selector.ToString());
    return pods;
  }

  // ---- what the pool is

  // Nothing more will come of it for now.
  static bool Concluded(const Watched<InferencePool>& pool) {
    const KindState state = pool.reflector->status().state;
    return pool.store->listed() || state == KindState::kForbidden || state == KindState::kAbsent;
  }

  const InferencePool* PoolIn(const Watched<InferencePool>& watched) const {
    const auto found = watched.store->objects().find(options_.pool_name);
    const bool usable = found != watched.store->objects().end() && !found->second->meta.deleting;
    return usable ? found->second.get() : nullptr;
  }

  void PoolChanged() {
    const Watched<InferencePool>* source = nullptr;
    for (size_t i = 0; i < pools_.size() && source == nullptr; ++i) {
      if (i > 0 && !second_pool_started_) {
        if (!Concluded(pools_[i - 1])) break;
        second_pool_started_ = true;
        WP_LOG(kInfo, "kubernetes", "pool is not in the first API group: looking into the second",
               {"pool", options_.pool_name}, {"first", pools_[i - 1].group},
               {"second", pools_[i].group});
        pools_[i].reflector->Start();
      }
      if (PoolIn(pools_[i]) != nullptr) source = &pools_[i];
    }
    if (source == nullptr) {
      DropPool();
    } else {
      UsePool(*source, *PoolIn(*source));
    }
  }

  void DropPool() {
    const bool had = pods_ || next_pods_;
    pods_.reset();
    next_pods_.reset();
    if (had) {
      seen_going_ = true;
      WP_LOG(kWarn, "kubernetes", "pool is gone: no endpoints", {"pool", options_.pool_name});
    }
    Changed(had);
  }

  void UsePool(const Watched<InferencePool>& source, const InferencePool& pool) {
    LabelSelector selector = LabelSelector::Of(pool.match_labels);
    const std::string of = source.group + "\n" + pool.meta.uid + "\n" + selector.ToString();
    PodsWatched* pods = nullptr;
    bool begin = false;
    if (pods_ && pods_->of == of) {
      pods = pods_.get();
      next_pods_.reset();  // it went back to what it was
    } else if (next_pods_ && next_pods_->of == of) {
      pods = next_pods_.get();
    } else {
      WP_LOG(kInfo, "kubernetes", "pool found", {"pool", options_.pool_name},
             {"group", source.group}, {"selector", selector.ToString()},
             {"target_ports", fmt::format("{}", fmt::join(pool.target_ports, ","))});
      next_pods_ = MakePods(of, std::move(selector));
      pods = next_pods_.get();
      begin = true;
    }
    pods->pool_version = source.group + (source.group == kStableGroup ? "/v1" : "/v1alpha2");
    pods->group = source.group;
    pods->target_ports = pool.target_ports;
    pods->app_protocol = pool.app_protocol;
    if (begin) pods->reflector->Start();
    Changed(false);
  }

  void PodsChanged(const PodsWatched* pods, bool loss) {
    if (pods == next_pods_.get()) {
      // The list is whole: it takes the place of the former pool's or selector's at once.
      pods_ = std::move(next_pods_);
      loss = true;
    }
    Changed(loss);
  }

  // ---- what is told

  void Changed(bool loss) {
    if (!running_) return;
    const TimePoint now = clock_.Now();
    Duration wait = kGather;
    if (loss) {
      wait = told_ ? *told_ + kGatherLosses - now : Duration::zero();
      if (wait <= Duration::zero()) return Tell();
    }
    if (timer_ && due_ <= now + wait) return;
    due_ = now + wait;
    timer_ = timers_.After(wait, [this] { Tell(); });
  }

  void Tell() {
    timer_.reset();
    told_ = clock_.Now();
    Publish(MakeView());
    changed_(view_);
  }

  void Publish(std::shared_ptr<const PoolView> view) { std::atomic_store(&view_, std::move(view)); }

  std::shared_ptr<const PoolView> MakeView() const {
    auto view = std::make_shared<PoolView>();
    // Until the list of the next ones is there, the former serve.
    const PodsWatched* pods = pods_ ? pods_.get() : next_pods_.get();
    view->pool_exists = pods != nullptr;
    if (pods != nullptr) {
      view->synced = pods_ != nullptr;
      view->app_protocol = pods->app_protocol;
      view->target_ports = pods->target_ports;
      view->pool_version = pods->pool_version;
      view->pods = AllOf(pods->store->objects());
    } else {
      // That there is none is known once a list said so.
      const auto listed = [](const auto& pool) { return pool.store->listed(); };
      view->synced =
          seen_going_ || (second_pool_started_ && std::ranges::all_of(pools_, Concluded) &&
                          std::ranges::any_of(pools_, listed));
    }
    const std::string group = pods != nullptr ? pods->group : options_.pool_group;
    view->objectives = PoliciesOf(objectives_, group);
    view->rewrites = PoliciesOf(rewrites_, group);
    const auto tell = [&](const auto& watched) {
      view->kinds.push_back({watched.kind, watched.reflector->status()});
    };
    for (size_t i = 0; i < pools_.size(); ++i) {
      if (i == 0 || second_pool_started_) tell(pools_[i]);
    }
    if (pods != nullptr) tell(*pods);
    for (const auto& kind : objectives_) tell(kind);
    for (const auto& kind : rewrites_) tell(kind);
    return view;
  }

  template <typename T>
  static std::vector<std::shared_ptr<const T>> AllOf(
      const std::map<std::string, std::shared_ptr<const T>>& objects) {
    std::vector<std::shared_ptr<const T>> out;
    out.reserve(objects.size());
    for (const auto& [name, object] : objects) out.push_back(object);
    return out;
  }

  // A reference that names no group has the first one by default, also where the pool is of the
  // second.
  template <typename T>
  static std::vector<std::shared_ptr<const T>> PoliciesOf(const std::vector<Watched<T>>& kinds,
                                                          const std::string& pool_group) {
    std::map<std::string, std::shared_ptr<const T>> out;
    for (const Watched<T>& kind : kinds) {
      for (const auto& [name, object] : kind.store->objects()) {
        const std::string& group = object->pool.group;
        if (group == pool_group || group == kStableGroup || group.empty())
          out.emplace(name, object);
      }
    }
    return AllOf(out);
  }

  Api& api_;
  Timers& timers_;
  const Clock& clock_;
  Registry& metrics_;
  PoolWatchOptions options_;
  const std::function<void(std::shared_ptr<const PoolView>)> changed_;
  std::random_device random_;

  bool running_ = false;
  std::vector<Watched<InferencePool>> pools_;  // the first that has the pool counts
  bool second_pool_started_ = false;
  bool seen_going_ = false;  // the pool was there and is not any more, or was so before
  std::unique_ptr<PodsWatched> pods_;
  std::unique_ptr<PodsWatched> next_pods_;  // of the pool as it is now, while they are listed
  std::vector<Watched<InferenceObjective>> objectives_;  // the canonical group's first
  std::vector<Watched<InferenceModelRewrite>> rewrites_;

  std::shared_ptr<void> timer_;
  TimePoint due_{};
  std::optional<TimePoint> told_;
  std::shared_ptr<const PoolView> view_;
};

}  // namespace

Result<std::unique_ptr<PoolWatch>> PoolWatch::Create(
    Api& api, Timers& timers, const Clock& clock, Registry& metrics, PoolWatchOptions options,
    std::function<void(std::shared_ptr<const PoolView>)> changed) {
  auto watch = std::make_unique<PoolWatchImpl>(api, timers, clock, metrics, std::move(options),
                                               std::move(changed));
  WP_RETURN_IF_ERROR(watch->Prepare());
  return watch;
}

}  // namespace warmpath::k8s
