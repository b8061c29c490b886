#include "net/file_watch.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "base/hash.h"
#include "net/small_file.h"

namespace warmpath::net {
namespace {

constexpr size_t kMaxBytes = 16 << 20;
// A file changed again so soon after it was read may show the same times.
constexpr int64_t kTimesSettle = 2;  // seconds

struct Stat {
  std::array<int64_t, 7> fields{};
  int64_t changed_at = 0;  // seconds
  friend bool operator==(const Stat&, const Stat&) = default;
};

std::optional<Stat> StatOf(const std::string& path) {
  struct stat status{};
  if (stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return std::nullopt;
  return Stat{{static_cast<int64_t>(status.st_dev), static_cast<int64_t>(status.st_ino),
               status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec, status.st_ctim.tv_sec,
               status.st_ctim.tv_nsec},
              std::max(status.st_mtim.tv_sec, status.st_ctim.tv_sec)};
}

// Content as a digest; a file too large to read counts as what its status says.
std::optional<Sha256Digest> DigestOf(const std::string& path, const Stat& status) {
  const auto content = ReadSmallFile(path, kMaxBytes);
  if (content) return Sha256(*content);
  if (content.error().code != Code::kOutOfBounds) return std::nullopt;
  return Sha256({reinterpret_cast<const char*>(status.fields.data()), sizeof status.fields});
}

}  // namespace

struct FileWatch::Impl : std::enable_shared_from_this<FileWatch::Impl> {
  struct File {
    std::string path;
    std::optional<Stat> status{};
    bool times_settled = false;
    std::optional<Sha256Digest> content{};  // last seen; a missing file keeps it
    std::optional<Sha256Digest> told{};
  };

  // Looks again; true when some content is another than at the last look.
  bool Look() {
    const int64_t now =
        std::chrono::duration_cast<std::chrono::seconds>(SystemClock().WallNow().time_since_epoch())
            .count();
    bool moved = false;
    for (File& file : files) {
      const std::optional<Stat> status = StatOf(file.path);
      if (!status) continue;
      if (file.times_settled && status == file.status) continue;
      const auto content = DigestOf(file.path, *status);
      if (!content) continue;
      moved |= content != file.content;
      file.status = status;
      file.content = content;
      file.times_settled = status->changed_at + kTimesSettle < now;
    }
    return moved;
  }

  void Turn() {
    if (Look()) return;  // still being written, perhaps
    bool differs = false;
    for (File& file : files) {
      differs |= file.content != file.told;
      file.told = file.content;
    }
    if (!differs) return;
    const auto self = shared_from_this();  // the callback may end the watch
    changed();
  }

  std::vector<File> files;
  std::function<void()> changed;
  Timer timer;
};

FileWatch::FileWatch(Loop& loop, std::vector<std::string> paths, std::function<void()> changed,
                     Duration period)
    : impl_(std::make_shared<Impl>()) {
  for (std::string& path : paths) impl_->files.push_back({.path = std::move(path)});
  impl_->changed = std::move(changed);
  impl_->Look();
  for (Impl::File& file : impl_->files) file.told = file.content;
  impl_->timer = loop.Every(period, [weak = std::weak_ptr(impl_)] {
    if (const auto impl = weak.lock()) impl->Turn();
  });
}

FileWatch::~FileWatch() {
  impl_->timer.Cancel();
}

}  // namespace warmpath::net
