#include "scheduling/plugin.h"

namespace warmpath::scheduling {

void Plugin::Picked(const Request&, const Candidate&, PickEffects&) {}
void Plugin::Observe(const Observation&) {}
bool Plugin::wants_estimated_tokens() const {
  return false;
}
bool Filter::Keep(const Request&, const Candidate&) const {
  return true;
}
void Filter::Narrow(const Request& request, std::vector<size_t>& candidates, uint64_t) const {
  std::erase_if(candidates, [&](size_t i) { return !Keep(request, request.candidates[i]); });
}
bool Scorer::about_prefixes() const {
  return false;
}

}  // namespace warmpath::scheduling
