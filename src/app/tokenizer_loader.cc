#include "app/tokenizer_loader.h"

#include <fmt/format.h>

#include "base/log.h"
#include "prompt/shared_tokenizer.h"

namespace warmpath::app {
namespace {

Result<std::shared_ptr<const prompt::Encoder>> LoadEncoder(const std::string& name_or_directory) {
  WP_TRY(const std::string directory, prompt::FindTokenizerDirectory(name_or_directory));
  WP_TRY(std::shared_ptr<const prompt::Tokenizer> tokenizer,
         prompt::LoadSharedTokenizer(directory));
  WP_LOG(kInfo, "tokenizer", "tokenizer loaded", {"directory", directory},
         {"backend", tokenizer->backend()}, {"chat_template", tokenizer->has_chat_template()});
  return std::make_shared<const prompt::Encoder>(std::move(tokenizer), prompt::EncoderOptions{});
}

}  // namespace

TokenizerLoader::TokenizerLoader(std::string model, std::string source, routing::Director& director,
                                 Loaded loaded)
    : model_(std::move(model)),
      source_(std::move(source)),
      director_(director),
      loaded_(std::move(loaded)),
      pool_("tokenizer", 1, 4) {}

Status TokenizerLoader::LoadExplicit() {
  if (source_.empty()) return {};
  auto encoder = LoadEncoder(source_);
  if (!encoder) return Fail(encoder.error(), fmt::format("--tokenizer {}", source_));
  director_.SetEncoder(model_, *encoder);
  loaded_(std::move(*encoder));
  MutexLock lock(mutex_);
  settled_ = true;
  return {};
}

void TokenizerLoader::OnFleet(const fleet::Snapshot& snapshot) {
  if (!source_.empty()) return;
  std::string model = model_;
  std::string root;
  for (const auto& endpoint : snapshot.endpoints) {
    for (const fleet::ServedModel& served : endpoint->models) {
      if (served.is_adapter() || (!model.empty() && served.id != model)) continue;
      model = served.id;
      root = served.root;
      break;
    }
    if (!root.empty()) break;
  }
  if (model.empty()) return;  // no engine has answered yet
  // The root is what the engine itself loaded: a hub name or a directory that may exist here too.
  MutexLock lock(mutex_);
  std::vector<std::string> names;
  for (const std::string& name : {model, root}) {
    if (!name.empty() && !tried_.contains(name)) names.push_back(name);
  }
  if (names.empty() || director_.encoder() != nullptr) return;
  if (pool_.TryRun([this, model, names] { TryLoad(model, names); })) {
    tried_.insert(names.begin(), names.end());
  }
}

void TokenizerLoader::TryLoad(const std::string& model, const std::vector<std::string>& names) {
  std::string reasons;
  for (const std::string& name : names) {
    if (director_.encoder() != nullptr) break;
    auto encoder = LoadEncoder(name);
    if (encoder) {
      director_.SetEncoder(model, *encoder);
      loaded_(std::move(*encoder));
    } else {
      reasons += (reasons.empty() ? "" : "; ") + encoder.error().message;
    }
  }
  if (director_.encoder() == nullptr) {
    director_.SetEncoderAbsent("no tokenizer: " + reasons);
    WP_LOG(kWarn, "tokenizer", "no exact tokens: requests are routed by load; give --tokenizer DIR",
           {"model", model}, {"reason", reasons});
  }
  MutexLock lock(mutex_);
  settled_ = true;
}

bool TokenizerLoader::settled() const {
  MutexLock lock(mutex_);
  return settled_;
}

}  // namespace warmpath::app
