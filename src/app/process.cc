#include "app/process.h"

#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>

#include "app/version.h"
#include "base/log.h"

namespace warmpath::app {
namespace {

sigset_t StopSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}

// The first signal asks for a drain; whoever sends a second one does not want to wait for it.
void ExitOnNextSignal() {
  signal(SIGINT, [](int) { _exit(kExitRuntime); });
  signal(SIGTERM, [](int) { _exit(kExitRuntime); });
  const sigset_t set = StopSignals();
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

}  // namespace

void BlockStopSignals() {
  const sigset_t set = StopSignals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_IGN);
}

void RaiseOpenFilesLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

void WaitForStopSignal() {
  const sigset_t set = StopSignals();
  int received = 0;
  while (sigwait(&set, &received) != 0) {
  }
  ExitOnNextSignal();
}

bool WaitForStopSignal(int milliseconds) {
  const sigset_t set = StopSignals();
  const timespec timeout{milliseconds / 1000, milliseconds % 1000 * 1'000'000L};
  if (sigtimedwait(&set, nullptr, &timeout) <= 0) return false;
  ExitOnNextSignal();
  return true;
}

Status WriteReadyFile(const std::string& path,
                      const std::vector<std::pair<std::string, std::string>>& listeners) {
  if (path.empty()) return {};
  std::string json = fmt::format("{{\"pid\":{}", getpid());
  for (const auto& [name, value] : listeners) {
    json += fmt::format(",{}:{}", JsonQuote(name), JsonQuote(value));
  }
  json += "}\n";
  const std::string temporary = fmt::format("{}.{}.tmp", path, getpid());
  const auto failed = [&](const char* doing) {
    return Fail(Code::kUnavailable,
                fmt::format("--ready-file {}: {}: {}", path, doing, std::strerror(errno)));
  };
  std::FILE* file = std::fopen(temporary.c_str(), "w");
  if (file == nullptr) return failed("cannot create");
  const bool written = std::fwrite(json.data(), 1, json.size(), file) == json.size();
  if (std::fclose(file) != 0 || !written) return failed("cannot write");
  if (std::rename(temporary.c_str(), path.c_str()) != 0) return failed("cannot rename");
  return {};
}

int ReportError(const Error& error) {
  fmt::print(stderr, "warmpath: {}\n", error.message);
  return error.code == Code::kInvalidArgument ? kExitUsage : kExitRuntime;
}

std::string VersionLine() {
  return fmt::format("warmpath {} (git {})", WARMPATH_VERSION, WARMPATH_GIT_REVISION);
}

}  // namespace warmpath::app
