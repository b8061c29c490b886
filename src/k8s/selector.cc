#include "k8s/selector.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace warmpath::k8s {
namespace {

constexpr size_t kMaxText = 64 << 10;
constexpr size_t kMaxQuoted = 200;
constexpr size_t kMaxNamePart = 63;
constexpr size_t kMaxPrefix = 253;

bool IsBlank(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

bool IsAlphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

// Letters, digits, '-', '_', '.', with a letter or a digit at both ends; at most 63.
bool IsNamePart(std::string_view text) {
  return !text.empty() && text.size() <= kMaxNamePart && IsAlphanumeric(text.front()) &&
         IsAlphanumeric(text.back()) && std::ranges::all_of(text, [](char c) {
           return IsAlphanumeric(c) || c == '-' || c == '_' || c == '.';
         });
}

// "name" or "prefix/name"; the prefix a DNS subdomain.
bool IsKey(std::string_view text) {
  const size_t slash = text.find('/');
  if (slash == std::string_view::npos) return IsNamePart(text);
  const std::string_view prefix = text.substr(0, slash);
  return !prefix.empty() && prefix.size() <= kMaxPrefix && IsAlphanumeric(prefix.front()) &&
         IsAlphanumeric(prefix.back()) &&
         std::ranges::all_of(prefix,
                             [](char c) {
                               return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
                                      c == '-' || c == '.';
                             }) &&
         IsNamePart(text.substr(slash + 1));
}

bool IsValue(std::string_view text) {
  return text.empty() || IsNamePart(text);
}

// Words, and the signs = == != ! ( ) , < >.
class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) { Next(); }

  std::string_view token() const { return token_; }  // "" at the end
  bool is_word() const { return !token_.empty() && !IsSign(token_.front()); }
  size_t place() const { return start_; }

  void Next() {
    while (at_ < text_.size() && IsBlank(text_[at_])) ++at_;
    start_ = at_;
    if (at_ == text_.size()) {
      token_ = {};
      return;
    }
    if (IsSign(text_[at_])) {
      ++at_;
      const bool doubled =
          (text_[start_] == '=' || text_[start_] == '!') && at_ < text_.size() && text_[at_] == '=';
      if (doubled) ++at_;
    } else {
      while (at_ < text_.size() && !IsSign(text_[at_]) && !IsBlank(text_[at_])) ++at_;
    }
    token_ = text_.substr(start_, at_ - start_);
  }

 private:
  static bool IsSign(char c) {
    return std::string_view("=!(),<>").find(c) != std::string_view::npos;
  }

  const std::string_view text_;
  std::string_view token_;
  size_t start_ = 0, at_ = 0;
};

}  // namespace

Result<LabelSelector> LabelSelector::Parse(std::string_view text) {
  if (text.size() > kMaxText) {
    return Fail(Code::kOutOfBounds,
                fmt::format("label selector of {} bytes; at most {}", text.size(), kMaxText));
  }
  Lexer lexer(text);
  const auto bad = [&](std::string_view what) {
    return Fail(Code::kInvalidArgument,
                fmt::format("label selector {}: at byte {}: {}",
                            JsonQuote(text.substr(0, kMaxQuoted)), lexer.place(), what));
  };
  // An empty one needs no word.
  const auto add_value = [&](Requirement& requirement) -> Status {
    const std::string_view value = lexer.is_word() ? lexer.token() : std::string_view();
    if (!IsValue(value)) return bad("no label's value");
    if (lexer.is_word()) lexer.Next();
    requirement.values.emplace_back(value);
    return {};
  };
  LabelSelector out;
  if (lexer.token().empty()) return out;
  while (true) {
    Requirement requirement;
    if (lexer.token() == "!") {
      requirement.op = Op::kNotExists;
      lexer.Next();
    }
    if (!lexer.is_word()) return bad("a label's key is expected");
    if (!IsKey(lexer.token())) {
      return bad("no label's key: [prefix/]name of letters, digits, '-', '_' and '.'");
    }
    requirement.key = lexer.token();
    lexer.Next();
    const std::string_view sign = lexer.token();
    if (sign == "=" || sign == "==" || sign == "!=") {
      if (requirement.op == Op::kNotExists) return bad("'!' takes only a key");
      requirement.op = sign == "!=" ? Op::kNotEquals : Op::kEquals;
      lexer.Next();
      WP_RETURN_IF_ERROR(add_value(requirement));
    } else if (sign == "in" || sign == "notin") {
      if (requirement.op == Op::kNotExists) return bad("'!' takes only a key");
      requirement.op = sign == "in" ? Op::kIn : Op::kNotIn;
      lexer.Next();
      if (lexer.token() != "(") return bad("'(' is expected");
      do {
        lexer.Next();
        WP_RETURN_IF_ERROR(add_value(requirement));
      } while (lexer.token() == ",");
      if (lexer.token() != ")") return bad("',' or ')' is expected");
      lexer.Next();
    } else if (sign == "<" || sign == ">") {
      return bad("'<' and '>' are not supported");
    }
    out.requirements_.push_back(std::move(requirement));
    if (lexer.token().empty()) return out;
    if (lexer.token() != ",") return bad("',' or an operator is expected");
    lexer.Next();
  }
}

LabelSelector LabelSelector::Of(const std::map<std::string, std::string>& match_labels) {
  LabelSelector out;
  for (const auto& [key, value] : match_labels) {
    out.requirements_.push_back({key, Op::kEquals, {value}});
  }
  return out;
}

bool LabelSelector::Matches(const std::map<std::string, std::string>& labels) const {
  return std::ranges::all_of(requirements_, [&](const Requirement& requirement) {
    const auto label = labels.find(requirement.key);
    const bool exists = label != labels.end();
    const bool listed =
        exists && std::ranges::find(requirement.values, label->second) != requirement.values.end();
    switch (requirement.op) {
      case Op::kEquals:
      case Op::kIn:
        return listed;
      case Op::kNotEquals:
      case Op::kNotIn:
        return !listed;
      case Op::kExists:
        return exists;
      case Op::kNotExists:
        return !exists;
    }
    return false;
  });
}

std::string LabelSelector::ToString() const {
  std::string out;
  for (const Requirement& requirement : requirements_) {
    if (!out.empty()) out += ',';
    switch (requirement.op) {
      case Op::kEquals:
        out += requirement.key + "=" + requirement.values.front();
        break;
      case Op::kNotEquals:
        out += requirement.key + "!=" + requirement.values.front();
        break;
      case Op::kIn:
      case Op::kNotIn:
        out +=
            fmt::format("{} {} ({})", requirement.key, requirement.op == Op::kIn ? "in" : "notin",
                        fmt::join(requirement.values, ","));
        break;
      case Op::kExists:
        out += requirement.key;
        break;
      case Op::kNotExists:
        out += "!" + requirement.key;
        break;
    }
  }
  return out;
}

}  // namespace warmpath::k8s
