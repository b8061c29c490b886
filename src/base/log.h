// Structured logging to stderr: one line per record, a message and fields, console or JSON.
//
// Verbosity follows llm-d's -v: 0 errors, 1 warnings, 2 info (default), 3 verbose, 4 debug, 5
// trace. A record below the verbosity costs one atomic load; fields are only rendered when it is
// printed. Thread-safe; a line is written whole. Prompts, tokens' text, Authorization headers and
// keys are never put into a field.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "base/result.h"

namespace warmpath {

enum class LogLevel { kError = 0, kWarn = 1, kInfo = 2, kVerbose = 3, kDebug = 4, kTrace = 5 };
enum class LogFormat { kConsole, kJson };

// A JSON value already rendered ({"a":1}, null): printed as it is.
struct RawJson {
  std::string text;
};

struct LogField {
  using Value = std::variant<std::string, int64_t, uint64_t, double, bool, RawJson>;
  std::string_view key;
  Value value;

  LogField(std::string_view k, std::string v) : key(k), value(std::move(v)) {}
  LogField(std::string_view k, std::string_view v) : key(k), value(std::string(v)) {}
  LogField(std::string_view k, const char* v) : key(k), value(std::string(v)) {}
  LogField(std::string_view k, bool v) : key(k), value(v) {}
  LogField(std::string_view k, double v) : key(k), value(v) {}
  LogField(std::string_view k, RawJson v) : key(k), value(std::move(v)) {}
  template <typename T>
    requires std::is_integral_v<T> && (!std::is_same_v<T, bool>)
  LogField(std::string_view k, T v) : key(k) {
    if constexpr (std::is_signed_v<T>) {
      value = static_cast<int64_t>(v);
    } else {
      value = static_cast<uint64_t>(v);
    }
  }
};

void SetLogVerbosity(int verbosity);
void SetLogFormat(LogFormat format);
LogFormat GetLogFormat();
bool LogEnabled(LogLevel level);

// `logger` names the part that speaks ("events", "gateway"); `message` is constant text, what
// varies goes into fields.
void Log(LogLevel level, std::string_view logger, std::string_view message,
         std::initializer_list<LogField> fields = {});

// A line whose console form is given by others (klog's "metrics beat"): printed as it is at
// `level`.
void LogRaw(LogLevel level, std::string_view line);

// Shows every line to `tap`, on the thread that logs, one at a time; a line for which it returns
// true is not printed. Null removes it: after SetLogTap returned, the former tap is not called any
// more. The tap must not log.
void SetLogTap(std::function<bool(std::string_view line)> tap);

// Tests read what was logged: replaces stderr until destroyed, also while threads log. Not nested.
class LogCapture {
 public:
  LogCapture();
  ~LogCapture();
  LogCapture(const LogCapture&) = delete;
  LogCapture& operator=(const LogCapture&) = delete;
  std::string text() const;
};

// `text` as a JSON string literal, with quotes. Invalid UTF-8 becomes U+FFFD.
std::string JsonQuote(std::string_view text);

// RFC 3339, UTC, seconds: 2025-08-24T19:19:16Z.
std::string Rfc3339Now();

}  // namespace warmpath

// Evaluates the fields only when the record will be printed.
#define WP_LOG(level, logger, message, ...)                                         \
  do {                                                                              \
    if (::warmpath::LogEnabled(::warmpath::LogLevel::level))                        \
      ::warmpath::Log(::warmpath::LogLevel::level, logger, message, {__VA_ARGS__}); \
  } while (false)
