// Finds and loads the tokenizer once its model is known, off the loops, and hands it to the
// Director.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/pool.h"
#include "base/result.h"
#include "fleet/fleet.h"
#include "prompt/encoder.h"
#include "routing/director.h"

namespace warmpath::app {

// Thread-safe. The Director must outlive it.
class TokenizerLoader {
 public:
  // Called with each encoder loaded, on the loading thread.
  using Loaded = std::function<void(std::shared_ptr<const prompt::Encoder>)>;
  // `model` and `source` as given by the user; either may be empty.
  TokenizerLoader(std::string model, std::string source, routing::Director& director,
                  Loaded loaded);

  // With an explicit source: loads now; the error names the flag. Otherwise nothing is done until
  // OnFleet.
  Status LoadExplicit() EXCLUDES(mutex_);
  // The engines' models became known: without an explicit source, tries the base model's name once
  // per name, on its own thread.
  void OnFleet(const fleet::Snapshot& snapshot) EXCLUDES(mutex_);
  // True once a tokenizer is loaded or it is settled that there is none.
  bool settled() const EXCLUDES(mutex_);

 private:
  // Names or directories, the first that has a tokenizer; on the loading thread.
  void TryLoad(const std::string& model, const std::vector<std::string>& names) EXCLUDES(mutex_);

  const std::string model_;
  const std::string source_;
  routing::Director& director_;
  const Loaded loaded_;
  mutable Mutex mutex_;
  bool settled_ GUARDED_BY(mutex_) = false;
  std::set<std::string> tried_ GUARDED_BY(mutex_);  // names
  CpuPool pool_;
};

}  // namespace warmpath::app
