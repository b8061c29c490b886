// What every long-running command does as a process: wait for a signal, say where it listens,
// report errors in one line.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

namespace warmpath::app {

inline constexpr int kExitOk = 0;
inline constexpr int kExitRuntime = 1;
inline constexpr int kExitUsage = 2;

// Blocks SIGINT and SIGTERM in the calling thread and all threads it starts later; call first in
// main. SIGPIPE is ignored.
void BlockStopSignals();
// Sockets are files: takes the whole of the hard limit on open files, as most systems' soft limit
// of 1,024 is a hundred engines' worth. Call before threads start; the limits stay as they are
// where that is refused.
void RaiseOpenFilesLimit();
// Waits for SIGINT or SIGTERM. From then on a second one ends the process at once with
// kExitRuntime.
void WaitForStopSignal();
// As WaitForStopSignal, giving up after `milliseconds`; true when a signal came.
bool WaitForStopSignal(int milliseconds);

// Writes {"pid":N, name: value, ...} to `path` atomically (temporary file, then rename). No-op for
// an empty path.
Status WriteReadyFile(const std::string& path,
                      const std::vector<std::pair<std::string, std::string>>& listeners);

// "warmpath: <message>" on stderr, one line; returns the exit code for it (kInvalidArgument: usage,
// else runtime).
int ReportError(const Error& error);

// "warmpath 0.1.0 (git abcdef1)".
std::string VersionLine();

}  // namespace warmpath::app
