#include "scheduling/plugin.h"

namespace warmpath::scheduling {

void Plugin::Picked(const Request&, const Candidate&) {}
void Plugin::Observe(const Observation&) {}
bool Scorer::about_prefixes() const {
  return false;
}

}  // namespace warmpath::scheduling
