#include "app/tokenizer_loader.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <random>
#include <system_error>
#include <utility>

#include "base/log.h"
#include "prompt/shared_tokenizer.h"
#include "prompt/tokenizer.h"

namespace warmpath::app {
namespace {

constexpr size_t kMaxNames = 8;  // that engines give one model
constexpr std::string_view kWaiting = "waiting";
constexpr std::string_view kLoading = "loading";
constexpr std::string_view kLoaded = "loaded";
constexpr std::string_view kFailed = "failed";

bool IsDirectory(const std::string& name) {
  std::error_code ignored;
  return std::filesystem::is_directory(name, ignored);
}

}  // namespace

TokenizerLoader::TokenizerLoader(TokenizerLoaderOptions options, routing::Director& director,
                                 Registry& metrics, Loaded loaded)
    : options_(std::move(options)), director_(director), loaded_(std::move(loaded)) {
  for (const std::string_view state : {kWaiting, kLoading, kLoaded, kFailed}) {
    gauges_.emplace_back(
        state, metrics.AddGauge("warmpath_tokenizer_state",
                                "1 for the state the tokenizer is in: waiting (for an engine to "
                                "name its model), loading, loaded, failed (and being tried again).",
                                {{"state", std::string(state)}}));
    gauges_.back().second.Set(state == kWaiting ? 1 : 0);
  }
  thread_ = std::jthread([this](const std::stop_token& stop) { Run(stop); });
}

TokenizerLoader::~TokenizerLoader() {
  thread_.request_stop();
  thread_.join();
}

Status TokenizerLoader::LoadExplicit() {
  const std::string& source = options_.source;
  if (source.empty()) return {};
  Target target{options_.model, {source}};
  const auto flag = [&](const Error& error) {
    return Fail(error, fmt::format("--tokenizer {}", source));
  };
  const auto directory = prompt::FindTokenizerDirectory(source);
  if (IsDirectory(source)) {
    if (!directory) return flag(directory.error());
    auto found = LoadFrom(source, "directory", *directory);
    if (!found) return flag(found.error());
    Use(target, std::move(*found));
    return {};
  }
  if (!prompt::ParseHubName(source)) {
    return flag({Code::kInvalidArgument, "neither a directory nor a model's name"});
  }
  if (directory) {
    if (auto found = LoadFrom(source, "cache", *directory)) {
      Use(target, std::move(*found));
      return {};
    }
  }
  Begin(std::move(target));
  return {};
}

void TokenizerLoader::OnFleet(const fleet::Snapshot& snapshot) {
  if (!options_.source.empty()) return;
  const auto served_as = [&](const std::string& model) {
    std::vector<const fleet::ServedModel*> found;
    for (const auto& endpoint : snapshot.endpoints) {
      for (const fleet::ServedModel& served : endpoint->models) {
        if (!served.is_adapter() && (model.empty() || served.id == model)) found.push_back(&served);
      }
    }
    return found;
  };
  Target target;
  {
    MutexLock lock(mutex_);
    if (info_.state == kLoaded) return;
    if (target_) target = *target_;
  }
  auto served = served_as(options_.model.empty() ? target.model : options_.model);
  // The model that was first is not served any more: another one may have a tokenizer.
  if (served.empty() && options_.model.empty() && !target.model.empty()) {
    served = served_as("");
    if (!served.empty()) target = {};
  }
  if (target.model.empty()) {
    target.model = !options_.model.empty() ? options_.model : served.empty() ? "" : served[0]->id;
  }
  if (target.model.empty()) return;  // no engine has answered yet
  const auto add = [&](const std::string& name) {
    const bool known =
        std::find(target.names.begin(), target.names.end(), name) != target.names.end();
    if (!name.empty() && !known && target.names.size() < kMaxNames) target.names.push_back(name);
  };
  add(target.model);
  // The root is what the engine itself loaded: a hub name or a directory that may exist here too.
  for (const fleet::ServedModel* model : served) {
    if (model->id == target.model) add(model->root);
  }
  Begin(std::move(target));
}

bool TokenizerLoader::settled() const {
  MutexLock lock(mutex_);
  return tried_ || (began_ != TimePoint{} && SystemClock().Now() - began_ >= options_.settle_after);
}

admin::TokenizerInfo TokenizerLoader::info() const {
  MutexLock lock(mutex_);
  return info_;
}

void TokenizerLoader::Begin(Target target) {
  MutexLock lock(mutex_);
  if (info_.state == kLoaded || target_ == target) return;
  target_ = std::move(target);
  if (began_ == TimePoint{}) began_ = SystemClock().Now();
  SetState({.state = kLoading, .name = target_->names.front()});
  changed_.NotifyAll();
}

void TokenizerLoader::Run(const std::stop_token& stop) {
  const std::stop_callback wake(stop, [this] {
    MutexLock lock(mutex_);
    changed_.NotifyAll();
  });
  std::minstd_rand random(std::random_device{}());
  Duration pause = options_.first_pause;
  while (true) {
    Target target;
    {
      MutexLock lock(mutex_);
      while (!target_ && !stop.stop_requested()) changed_.Wait(mutex_);
      if (stop.stop_requested()) return;
      target = *target_;
    }
    auto found = Try(target, stop);
    if (stop.stop_requested()) return;
    if (found) {
      Use(target, std::move(*found));
      return;
    }
    const std::string& reason = found.error().message;
    director_.SetEncoderAbsent("no tokenizer: " + reason);
    // A quarter of chance, so that replicas do not ask in step.
    const double share = std::uniform_real_distribution<double>(0.75, 1.0)(random);
    const TimePoint until = SystemClock().Now() + FromSeconds(ToSeconds(pause) * share);
    pause = std::min(pause * 2, options_.max_pause);
    MutexLock lock(mutex_);
    tried_ = true;
    if (target_ == target) {
      SetState({.state = kFailed, .name = target.names.front(), .reason = reason});
    }
    while (target_ == target && !stop.stop_requested()) {
      if (!changed_.WaitUntil(mutex_, until)) break;
    }
    if (target_ != target) pause = options_.first_pause;
  }
}

Result<TokenizerLoader::Found> TokenizerLoader::Try(const Target& target,
                                                    const std::stop_token& stop) const {
  std::vector<std::string> reasons;  // of the hub, then of the disk
  for (const std::string& name : target.names) {
    const auto directory = prompt::FindTokenizerDirectory(name);
    if (!directory) {
      reasons.push_back(directory.error().message);
      continue;
    }
    auto found = LoadFrom(name, IsDirectory(name) ? "directory" : "cache", *directory);
    if (found) return found;
    reasons.push_back(found.error().message);
  }
  // What an engine loaded says more than the name it serves it by.
  size_t from_hub = 0;
  for (auto name = target.names.rbegin(); name != target.names.rend(); ++name) {
    const auto hub_name = prompt::ParseHubName(*name);
    if (IsDirectory(*name) || !hub_name) continue;
    // A made-up name that an engine serves a model by is nobody's business; the hub's have owners.
    if (options_.source.empty() && !hub_name->has_owner()) continue;
    auto found = TryHub(*name, stop);
    if (found || stop.stop_requested()) return found;
    reasons.insert(reasons.begin() + static_cast<ptrdiff_t>(from_hub++), found.error().message);
  }
  return Fail(Code::kNotFound, fmt::format("{}", fmt::join(reasons, "; ")));
}

Result<TokenizerLoader::Found> TokenizerLoader::TryHub(const std::string& name,
                                                       const std::stop_token& stop) const {
  WP_TRY(const prompt::HubName hub_name, prompt::ParseHubName(name));
  WP_TRY(std::string directory, prompt::DownloadTokenizer(options_.hub, hub_name, stop));
  return LoadFrom(name, "hub", std::move(directory));
}

Result<TokenizerLoader::Found> TokenizerLoader::LoadFrom(const std::string& name,
                                                         std::string_view source,
                                                         std::string directory) {
  WP_TRY(std::shared_ptr<const prompt::Tokenizer> tokenizer,
         prompt::LoadSharedTokenizer(directory));
  return Found{
      name, source, std::move(directory),
      std::make_shared<const prompt::Encoder>(std::move(tokenizer), prompt::EncoderOptions{})};
}

void TokenizerLoader::Use(const Target& target, Found found) {
  director_.SetEncoder(target.model, found.encoder);
  loaded_(found.encoder);
  const prompt::Tokenizer& tokenizer = found.encoder->tokenizer();
  WP_LOG(kInfo, "tokenizer", "tokenizer loaded", {"name", found.name}, {"source", found.source},
         {"directory", found.directory}, {"backend", tokenizer.backend()},
         {"chat_template", tokenizer.has_chat_template()});
  MutexLock lock(mutex_);
  tried_ = true;
  SetState({.state = kLoaded,
            .name = std::move(found.name),
            .source = found.source,
            .directory = std::move(found.directory)});
}

void TokenizerLoader::SetState(admin::TokenizerInfo info) {
  for (const auto& [state, gauge] : gauges_) gauge.Set(state == info.state ? 1 : 0);
  if (info.state == kLoading && info_.state != kLoading) {
    WP_LOG(kInfo, "tokenizer", "tokenizer loading", {"name", info.name});
  } else if (info.state == kFailed && (info_.state != kFailed || info_.reason != info.reason)) {
    WP_LOG(kWarn, "tokenizer",
           "tokenizer failed: requests are routed by load until it loads; it is tried again",
           {"name", info.name}, {"reason", info.reason});
  }
  info_ = std::move(info);
}

}  // namespace warmpath::app
