// Finds and loads the tokenizer once its model is known, on a thread of its own, and hands it to
// the Director. Sources in order: a directory, the Hugging Face cache, the hub. What cannot be had
// is tried again, with growing pauses, until it can: requests go by load meanwhile.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "admin/tokenizer_info.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "base/mutex.h"
#include "base/result.h"
#include "fleet/fleet.h"
#include "prompt/encoder.h"
#include "prompt/hub.h"
#include "routing/director.h"

namespace warmpath::app {

struct TokenizerLoaderOptions {
  std::string model;   // as engines name it; "" = the first they serve
  std::string source;  // --tokenizer: a directory or a name; "" = by the model's name
  prompt::HubOptions hub{};
  Duration first_pause = std::chrono::seconds(1);  // doubles after each failure
  Duration max_pause = std::chrono::minutes(5);
  // A first load that takes longer does not hold up readiness any more.
  Duration settle_after = std::chrono::seconds(60);
};

// Thread-safe. Director and registry must outlive it.
class TokenizerLoader {
 public:
  using EncoderPtr = std::shared_ptr<const prompt::Encoder>;
  // Called with each encoder loaded, on the loading thread.
  using Loaded = std::function<void(EncoderPtr)>;
  TokenizerLoader(TokenizerLoaderOptions options, routing::Director& director, Registry& metrics,
                  Loaded loaded);
  ~TokenizerLoader();  // ends a download; waits for a tokenizer being read

  // With a source given: a directory, or what the cache has, is loaded now; a name that is nowhere
  // on this machine is left to the thread. An error means that the flag is wrong and names it.
  // Without a source nothing is done until OnFleet.
  Status LoadExplicit() EXCLUDES(mutex_);
  // The engines' models became known: without a source, what they serve names the tokenizer.
  void OnFleet(const fleet::Snapshot& snapshot) EXCLUDES(mutex_);

  // True once a tokenizer is loaded, or could not be, or takes too long: readiness waits for no
  // more than a first attempt.
  bool settled() const EXCLUDES(mutex_);
  admin::TokenizerInfo info() const EXCLUDES(mutex_);

 private:
  // What to load.
  struct Target {
    std::string model;               // what the Director calls it
    std::vector<std::string> names;  // directories or names, the likeliest first
    bool operator==(const Target&) const = default;
  };
  struct Found {
    std::string name;
    std::string_view source;
    std::string directory;
    EncoderPtr encoder;
  };

  void Run(const std::stop_token& stop) EXCLUDES(mutex_);
  // One pass over the sources. The error gives every reason.
  Result<Found> Try(const Target& target, const std::stop_token& stop) const;
  Result<Found> TryHub(const std::string& name, const std::stop_token& stop) const;
  static Result<Found> LoadFrom(const std::string& name, std::string_view source,
                                std::string directory);
  void Begin(Target target) EXCLUDES(mutex_);
  void Use(const Target& target, Found found) EXCLUDES(mutex_);
  void SetState(admin::TokenizerInfo info) REQUIRES(mutex_);

  const TokenizerLoaderOptions options_;
  routing::Director& director_;
  const Loaded loaded_;
  std::vector<std::pair<std::string_view, Gauge>> gauges_;  // one per state
  mutable Mutex mutex_;
  CondVar changed_;
  std::optional<Target> target_ GUARDED_BY(mutex_);
  TimePoint began_ GUARDED_BY(mutex_){};  // the first attempt at anything
  bool tried_ GUARDED_BY(mutex_) = false;
  admin::TokenizerInfo info_ GUARDED_BY(mutex_);
  std::jthread thread_;  // last: it uses all of the above
};

}  // namespace warmpath::app
