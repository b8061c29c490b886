// The dashboard's files (web/), embedded at build time. Immutable.
#pragma once

#include <string_view>

namespace warmpath::admin {

struct Asset {
  std::string_view path;  // on the server: "/", "/app.js"
  std::string_view type;  // Content-Type
  std::string_view bytes;
};

// nullptr when there is none.
const Asset* FindAsset(std::string_view path);

}  // namespace warmpath::admin
