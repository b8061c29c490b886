#include "base/log.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <cmath>
#include <string>
#include <utility>

#include "base/mutex.h"

namespace warmpath {
namespace {

std::atomic<int> verbosity{2};
std::atomic<LogFormat> format{LogFormat::kConsole};

// spdlog serialises the lines; formatting is ours, so its pattern is the bare message.
spdlog::logger& Sink() {
  static const std::shared_ptr<spdlog::logger> sink = [] {
    auto logger = std::make_shared<spdlog::logger>(
        "warmpath", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    logger->set_pattern("%v");
    logger->set_level(spdlog::level::trace);
    logger->flush_on(spdlog::level::trace);
    return logger;
  }();
  return *sink;
}

struct Tap {
  std::atomic<bool> set{false};
  Mutex mutex;
  std::function<bool(std::string_view)> show GUARDED_BY(mutex);
};

Tap& LogTap() {
  static Tap tap;
  return tap;
}

// True when a tap took the line.
bool Tapped(std::string_view line) {
  Tap& tap = LogTap();
  if (!tap.set.load(std::memory_order_acquire)) return false;
  MutexLock lock(tap.mutex);
  return tap.show && tap.show(line);
}

struct Captured {
  std::atomic<bool> on{false};
  Mutex mutex;
  std::string text GUARDED_BY(mutex);
};

Captured& CapturedLines() {
  static Captured captured;
  return captured;
}

// True when a test took the line.
bool Capture(std::string_view line) {
  Captured& captured = CapturedLines();
  if (!captured.on.load(std::memory_order_acquire)) return false;
  MutexLock lock(captured.mutex);
  captured.text += line;
  captured.text += '\n';
  return true;
}

std::string_view LevelName(LogLevel level) {
  switch (level) {
    case LogLevel::kError:
      return "ERROR";
    case LogLevel::kWarn:
      return "WARN";
    case LogLevel::kInfo:
      return "INFO";
    case LogLevel::kVerbose:
      return "LEVEL(-3)";
    case LogLevel::kDebug:
      return "LEVEL(-4)";
    case LogLevel::kTrace:
      return "LEVEL(-5)";
  }
  return "INFO";
}

std::string RenderValue(const LogField::Value& value) {
  struct Renderer {
    std::string operator()(const std::string& v) const { return JsonQuote(v); }
    std::string operator()(int64_t v) const { return fmt::to_string(v); }
    std::string operator()(uint64_t v) const { return fmt::to_string(v); }
    std::string operator()(double v) const { return std::isfinite(v) ? fmt::to_string(v) : "null"; }
    std::string operator()(bool v) const { return v ? "true" : "false"; }
    std::string operator()(const RawJson& v) const { return v.text; }
  };
  return std::visit(Renderer{}, value);
}

// Length of the UTF-8 sequence at text[i], or 0 if it is not one (overlong forms and surrogates
// included).
size_t Utf8Length(std::string_view text, size_t i) {
  const auto byte = [&](size_t k) { return static_cast<uint8_t>(text[k]); };
  const uint8_t lead = byte(i);
  const size_t n = lead < 0x80                   ? 1
                   : lead >= 0xC2 && lead < 0xE0 ? 2
                   : lead >= 0xE0 && lead < 0xF0 ? 3
                   : lead >= 0xF0 && lead < 0xF5 ? 4
                                                 : 0;
  if (n == 0 || i + n > text.size()) return 0;
  for (size_t k = 1; k < n; ++k) {
    if ((byte(i + k) & 0xC0) != 0x80) return 0;
  }
  if ((lead == 0xE0 && byte(i + 1) < 0xA0) || (lead == 0xED && byte(i + 1) >= 0xA0) ||
      (lead == 0xF0 && byte(i + 1) < 0x90) || (lead == 0xF4 && byte(i + 1) >= 0x90)) {
    return 0;
  }
  return n;
}

}  // namespace

void SetLogVerbosity(int value) {
  verbosity.store(value, std::memory_order_relaxed);
}
void SetLogFormat(LogFormat value) {
  format.store(value, std::memory_order_relaxed);
}
LogFormat GetLogFormat() {
  return format.load(std::memory_order_relaxed);
}
bool LogEnabled(LogLevel level) {
  return static_cast<int>(level) <= verbosity.load(std::memory_order_relaxed);
}

void Log(LogLevel level, std::string_view logger, std::string_view message,
         std::initializer_list<LogField> fields) {
  if (!LogEnabled(level)) return;
  std::string rendered;
  const bool json = GetLogFormat() == LogFormat::kJson;
  const std::string_view colon = json ? ":" : ": ";
  const std::string_view comma = json ? "," : ", ";
  for (const LogField& field : fields) {
    if (!rendered.empty()) rendered += comma;
    rendered += JsonQuote(field.key);
    rendered += colon;
    rendered += RenderValue(field.value);
  }
  if (json) {
    LogRaw(level, fmt::format(R"({{"ts":"{}","level":"{}","logger":{},"msg":{}{}{}}})",
                              Rfc3339Now(), LevelName(level), JsonQuote(logger), JsonQuote(message),
                              rendered.empty() ? "" : ",", rendered));
  } else {
    LogRaw(level, fmt::format("{}\t{}\t{}\t{}{}", Rfc3339Now(), LevelName(level), logger, message,
                              rendered.empty() ? "" : "\t{" + rendered + "}"));
  }
}

void LogRaw(LogLevel level, std::string_view line) {
  if (!LogEnabled(level) || Tapped(line) || Capture(line)) return;
  Sink().log(spdlog::level::info, "{}", line);
}

void SetLogTap(std::function<bool(std::string_view line)> show) {
  Tap& tap = LogTap();
  MutexLock lock(tap.mutex);
  tap.show = std::move(show);
  tap.set.store(tap.show != nullptr, std::memory_order_release);
}

LogCapture::LogCapture() {
  Captured& captured = CapturedLines();
  MutexLock lock(captured.mutex);
  captured.text.clear();
  captured.on.store(true, std::memory_order_release);
}
LogCapture::~LogCapture() {
  CapturedLines().on.store(false, std::memory_order_release);
}
std::string LogCapture::text() const {
  Captured& captured = CapturedLines();
  MutexLock lock(captured.mutex);
  return captured.text;
}

std::string JsonQuote(std::string_view text) {
  std::string out = "\"";
  for (size_t i = 0; i < text.size();) {
    const size_t n = Utf8Length(text, i);
    if (n == 0) {
      out += "\xEF\xBF\xBD";
      ++i;
      continue;
    }
    const char c = text[i];
    if (n > 1) {
      out += text.substr(i, n);
    } else if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c == '\r') {
      out += "\\r";
    } else if (static_cast<uint8_t>(c) < 0x20) {
      out += fmt::format("\\u{:04x}", static_cast<int>(c));
    } else {
      out += c;
    }
    i += n;
  }
  out += '"';
  return out;
}

std::string Rfc3339Now() {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
}

}  // namespace warmpath
