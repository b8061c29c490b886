#include "net/small_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace warmpath::net {
namespace {

tl::unexpected<Error> CannotRead(const std::string& path, int error) {
  return Fail(error == ENOENT ? Code::kNotFound : Code::kUnavailable,
              fmt::format("cannot read {}: {}", path, std::generic_category().message(error)));
}

struct Descriptor {
  explicit Descriptor(int number) : fd(number) {}
  ~Descriptor() {
    if (fd >= 0) close(fd);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  const int fd;
};

}  // namespace

Result<std::string> ReadSmallFile(const std::string& path, size_t max_bytes) {
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.fd < 0) return CannotRead(path, errno);
  struct stat status{};
  if (fstat(file.fd, &status) != 0) return CannotRead(path, errno);
  if (!S_ISREG(status.st_mode)) {
    return Fail(Code::kInvalidArgument, fmt::format("cannot read {}: not a regular file", path));
  }
  std::string content;
  char buffer[16 << 10];
  while (true) {
    const ssize_t size = read(file.fd, buffer, sizeof buffer);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return CannotRead(path, errno);
    if (size == 0) return content;
    if (content.size() + static_cast<size_t>(size) > max_bytes) {
      return Fail(Code::kOutOfBounds,
                  fmt::format("cannot read {}: larger than {} bytes", path, max_bytes));
    }
    content.append(buffer, static_cast<size_t>(size));
  }
}

}  // namespace warmpath::net
