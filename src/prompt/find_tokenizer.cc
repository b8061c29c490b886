#include <fmt/core.h>
#include <fmt/ranges.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <vector>

#include "prompt/tokenizer.h"

namespace warmpath::prompt {
namespace {

namespace fs = std::filesystem;

std::string Env(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

bool HasTokenizer(const fs::path& dir) {
  std::error_code ignored;
  return fs::exists(dir / "tokenizer.json", ignored);
}

// Hub caches in the order the Hugging Face libraries look at them; the first one that is set wins
// there, here all are tried.
std::vector<fs::path> HubCaches() {
  std::vector<fs::path> caches;
  if (auto dir = Env("HF_HUB_CACHE"); !dir.empty()) caches.emplace_back(dir);
  if (auto dir = Env("HUGGINGFACE_HUB_CACHE"); !dir.empty()) caches.emplace_back(dir);
  if (auto dir = Env("HF_HOME"); !dir.empty()) caches.push_back(fs::path(dir) / "hub");
  if (auto dir = Env("XDG_CACHE_HOME"); !dir.empty()) {
    caches.push_back(fs::path(dir) / "huggingface" / "hub");
  }
  if (auto dir = Env("HOME"); !dir.empty()) {
    caches.push_back(fs::path(dir) / ".cache" / "huggingface" / "hub");
  }
  return caches;
}

// The snapshot refs/main names, else the newest one that holds a tokenizer; empty when there is
// none.
fs::path Snapshot(const fs::path& model_dir) {
  std::string revision;
  std::ifstream(model_dir / "refs" / "main") >> revision;
  const fs::path snapshots = model_dir / "snapshots";
  if (!revision.empty() && revision.find('/') == std::string::npos &&
      HasTokenizer(snapshots / revision)) {
    return snapshots / revision;
  }
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
  const size_t slash = name.find('/');
  const bool plausible =
      name.find("..") == std::string::npos && name.front() != '/' &&
      (slash == std::string::npos || name.find('/', slash + 1) == std::string::npos);
  if (plausible) {
    std::string folder = "models--" + name;
    if (slash != std::string::npos) folder.replace(folder.find('/'), 1, "--");
    for (const fs::path& cache : HubCaches()) {
      const fs::path model_dir = cache / folder;
      if (fs::path found = Snapshot(model_dir); !found.empty()) return found.string();
      looked.push_back(model_dir.string());
    }
  }
  return Fail(Code::kNotFound, fmt::format("no tokenizer.json for \"{}\"; looked at {}", name,
                                           fmt::join(looked, ", ")));
}

}  // namespace warmpath::prompt
