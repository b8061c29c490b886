#include "k8s/reflector.h"

namespace warmpath::k8s {

std::string_view KindStateName(KindState state) {
  switch (state) {
    case KindState::kListing:
      return "listing";
    case KindState::kSynced:
      return "synced";
    case KindState::kDisconnected:
      return "disconnected";
    case KindState::kForbidden:
      return "forbidden";
    case KindState::kAbsent:
      return "absent";
  }
  return "unknown";
}

}  // namespace warmpath::k8s
