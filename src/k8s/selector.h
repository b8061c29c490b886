// Label selectors in Kubernetes' grammar: k=v, k==v, k!=v, k in (a,b), k notin (a,b), k, !k, comma
// separated. Immutable.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace warmpath::k8s {

class LabelSelector {
 public:
  // Errors quote the text and the place.
  static Result<LabelSelector> Parse(std::string_view text);
  static LabelSelector Of(const std::map<std::string, std::string>& match_labels);
  bool Matches(const std::map<std::string, std::string>& labels) const;
  std::string ToString() const;  // as the API takes it in labelSelector=

 private:
  enum class Op { kEquals, kNotEquals, kIn, kNotIn, kExists, kNotExists };
  struct Requirement {
    std::string key;
    Op op = Op::kExists;
    std::vector<std::string> values;
  };
  std::vector<Requirement> requirements_;
};

}  // namespace warmpath::k8s
