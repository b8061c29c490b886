// The Hugging Face cache on disk: names of models, where caches lie, and storing a downloaded file
// the way other programs that share the cache expect it (refs, blobs, snapshots).
//
// Stateless; thread-safe, and safe against other processes: what appears under its final name is
// complete.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace warmpath::prompt {

// A model as the hub names it.
struct HubName {
  std::string repo;               // "Qwen/Qwen3-0.6B", of old also "gpt2"
  std::string revision = "main";  // branch, tag or commit

  bool has_owner() const { return repo.find('/') != std::string::npos; }
  std::string ToString() const;  // as ParseHubName takes it
};
// "OWNER/NAME" or "NAME", with "@REVISION" behind it for another one than main.
Result<HubName> ParseHubName(std::string_view text);

// Caches named by the environment, in the order the Hugging Face libraries look at them
// (HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME, XDG_CACHE_HOME, HOME). Empty: none is.
std::vector<std::filesystem::path> HubCaches();

// "models--Qwen--Qwen3-0.6B".
std::string CacheFolder(const HubName& name);

// One model's folder in a cache, for writing.
class HubCacheWriter {
 public:
  // Makes the folders; kUnavailable names the directory that cannot be written and what to set.
  static Result<HubCacheWriter> Open(const std::filesystem::path& cache, const HubName& name);

  // Makes `content` appear as `file` (relative) of the snapshot `commit`, its bytes in
  // blobs/`blob`. A file that is there already is replaced, for readers at once.
  Status Store(const std::string& commit, const std::string& file, const std::string& blob,
               std::string_view content) const;
  // The revision the folder was opened for now means `commit`.
  Status SetRevision(const std::string& commit) const;
  std::string Snapshot(const std::string& commit) const;

 private:
  HubCacheWriter(std::filesystem::path folder, std::string revision)
      : folder_(std::move(folder)), revision_(std::move(revision)) {}

  const std::filesystem::path folder_;
  const std::string revision_;
};

}  // namespace warmpath::prompt
