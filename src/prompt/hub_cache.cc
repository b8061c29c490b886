#include "prompt/hub_cache.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <system_error>

#include "base/hash.h"
#include "base/units.h"

namespace warmpath::prompt {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxRepoName = 128;
constexpr size_t kMaxRevision = 200;

std::string Env(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

// A path component, or several joined by '/', none of which leads elsewhere.
bool SafePath(std::string_view text, std::string_view more_characters) {
  for (const std::string_view part : Split(text, '/')) {
    const bool safe = std::all_of(part.begin(), part.end(), [&](unsigned char c) {
      return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-' ||
             more_characters.find(static_cast<char>(c)) != std::string_view::npos;
    });
    if (part.empty() || !safe || part.front() == '.' || part.front() == '-' ||
        part.find("..") != std::string_view::npos) {
      return false;
    }
  }
  return true;
}

auto CannotWrite(const fs::path& path, const std::error_code& error) {
  return Fail(Code::kUnavailable,
              fmt::format("the Hugging Face cache {} cannot be written by uid {}: {}; set HF_HOME "
                          "to a directory that can",
                          path.string(), geteuid(), error.message()));
}

Status MakeWritable(const fs::path& directory) {
  std::error_code error;
  fs::create_directories(directory, error);
  if (!error && access(directory.c_str(), W_OK | X_OK) != 0) {
    error = std::error_code(errno, std::generic_category());
  }
  if (error) return CannotWrite(directory, error);
  return {};
}

fs::path Unfinished(const fs::path& path) {
  return path.string() + "." + RandomUuid() + ".incomplete";
}

Status WriteFile(const fs::path& path, std::string_view content) {
  const fs::path unfinished = Unfinished(path);
  std::error_code error;
  errno = 0;
  std::ofstream out(unfinished, std::ios::binary);
  out.write(content.data(), static_cast<std::streamsize>(content.size()));
  out.close();
  if (!out) {
    error = std::error_code(errno != 0 ? errno : EIO, std::generic_category());
  } else {
    fs::rename(unfinished, path, error);
  }
  if (!error) return {};
  std::error_code ignored;
  fs::remove(unfinished, ignored);
  return CannotWrite(path, error);
}

}  // namespace

std::string HubName::ToString() const {
  return revision == "main" ? repo : repo + "@" + revision;
}

Result<HubName> ParseHubName(std::string_view text) {
  HubName name;
  const size_t at = text.find('@');
  name.repo = text.substr(0, at);
  if (at != std::string_view::npos) name.revision = text.substr(at + 1);
  if (name.repo.size() > kMaxRepoName || !SafePath(name.repo, "") ||
      std::count(name.repo.begin(), name.repo.end(), '/') > 1 ||
      name.revision.size() > kMaxRevision || !SafePath(name.revision, "+=")) {
    return Fail(Code::kInvalidArgument,
                fmt::format("\"{}\" is no name of a model on the hub: OWNER/NAME or "
                            "OWNER/NAME@REVISION",
                            text.substr(0, kMaxRepoName + kMaxRevision)));
  }
  return name;
}

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

std::string CacheFolder(const HubName& name) {
  std::string folder = "models--" + name.repo;
  if (const size_t slash = folder.find('/'); slash != std::string::npos) {
    folder.replace(slash, 1, "--");
  }
  return folder;
}

Result<HubCacheWriter> HubCacheWriter::Open(const fs::path& cache, const HubName& name) {
  const fs::path folder = cache / CacheFolder(name);
  for (const char* part : {"blobs", "refs", "snapshots"}) {
    WP_RETURN_IF_ERROR(MakeWritable(folder / part));
  }
  return HubCacheWriter(folder, name.revision);
}

Status HubCacheWriter::Store(const std::string& commit, const std::string& file,
                             const std::string& blob, std::string_view content) const {
  const fs::path path = folder_ / "snapshots" / commit / file;
  WP_RETURN_IF_ERROR(MakeWritable(path.parent_path()));
  WP_RETURN_IF_ERROR(WriteFile(folder_ / "blobs" / blob, content));
  fs::path target = fs::path("..") / ".." / "blobs" / blob;
  for (auto left = std::count(file.begin(), file.end(), '/'); left > 0; --left)
    target = ".." / target;
  const fs::path unfinished = Unfinished(path);
  std::error_code error;
  fs::create_symlink(target, unfinished, error);
  // A file system without symbolic links: the file itself lies there.
  if (error) return WriteFile(path, content);
  fs::rename(unfinished, path, error);
  if (!error) return {};
  std::error_code ignored;
  fs::remove(unfinished, ignored);
  return CannotWrite(path, error);
}

Status HubCacheWriter::SetRevision(const std::string& commit) const {
  if (revision_ == commit) return {};
  const fs::path ref = folder_ / "refs" / revision_;
  WP_RETURN_IF_ERROR(MakeWritable(ref.parent_path()));
  return WriteFile(ref, commit);
}

std::string HubCacheWriter::Snapshot(const std::string& commit) const {
  return (folder_ / "snapshots" / commit).string();
}

}  // namespace warmpath::prompt
