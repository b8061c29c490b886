#include <fmt/core.h>
#include <fmt/ranges.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <vector>

#include "prompt/hub_cache.h"
#include "prompt/tokenizer.h"

namespace warmpath::prompt {
namespace {

namespace fs = std::filesystem;

bool HasTokenizer(const fs::path& dir) {
  std::error_code ignored;
  return fs::exists(dir / "tokenizer.json", ignored);
}

// The snapshot that the revision's ref names, or that has the revision's name; for main else the
// newest one that holds a tokenizer. Empty when there is none.
fs::path Snapshot(const fs::path& model_dir, const std::string& revision) {
  std::string commit;
  std::ifstream(model_dir / "refs" / revision) >> commit;
  const fs::path snapshots = model_dir / "snapshots";
  for (const std::string& name : {commit, revision}) {
    if (!name.empty() && name.find('/') == std::string::npos && HasTokenizer(snapshots / name)) {
      return snapshots / name;
    }
  }
  if (revision != "main") return {};
  fs::path newest;
  fs::file_time_type newest_time{};
  std::error_code error;
  for (fs::directory_iterator it(snapshots, error), end; !error && it != end; it.increment(error)) {
    std::error_code time_error;
    const auto time = fs::last_write_time(it->path(), time_error);
    if (!time_error && HasTokenizer(it->path()) && (newest.empty() || time > newest_time)) {
      newest = it->path();
      newest_time = time;
    }
  }
  return newest;
}

}  // namespace

Result<std::string> FindTokenizerDirectory(std::string_view directory_or_name) {
  const std::string name(directory_or_name);
  if (name.empty()) return Fail(Code::kInvalidArgument, "no tokenizer named");
  std::error_code ignored;
  if (fs::is_directory(name, ignored)) {
    if (HasTokenizer(name)) return name;
    return Fail(Code::kNotFound, fmt::format("directory {} has no tokenizer.json", name));
  }
  std::vector<std::string> looked = {name};
  if (const auto hub_name = ParseHubName(name)) {
    for (const fs::path& cache : HubCaches()) {
      const fs::path model_dir = cache / CacheFolder(*hub_name);
      if (fs::path found = Snapshot(model_dir, hub_name->revision); !found.empty()) {
        return found.string();
      }
      looked.push_back(model_dir.string());
    }
  }
  return Fail(Code::kNotFound, fmt::format("no tokenizer.json for \"{}\"; looked at {}", name,
                                           fmt::join(looked, ", ")));
}

}  // namespace warmpath::prompt
