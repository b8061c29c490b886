# cmake -DWEB=<web directory> -DOUT=<file.cc> -P embed.cmake: writes the dashboard's files as byte arrays, with FindAsset over them.
set(text "// Generated from web/ by embed.cmake.\n#include \"admin/assets.h\"\n\nnamespace warmpath::admin {\nnamespace {\n\n")
set(table "")
set(number 0)
foreach(entry
    "/|index.html|text/html"
    "/app.js|app.js|text/javascript"
    "/view.js|view.js|text/javascript"
    "/style.css|style.css|text/css"
    "/icon.svg|icon.svg|image/svg+xml")
  string(REPLACE "|" ";" entry "${entry}")
  list(GET entry 0 path)
  list(GET entry 1 file)
  list(GET entry 2 type)
  file(READ ${WEB}/${file} hex HEX)
  string(LENGTH "${hex}" digits)
  math(EXPR size "${digits} / 2")
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "\\\\x\\1" escaped "${hex}")
  string(APPEND text "constexpr char kFile${number}[] =\n    \"${escaped}\";\n\n")
  string(APPEND table "    {\"${path}\", \"${type}; charset=utf-8\", {kFile${number}, ${size}}},\n")
  math(EXPR number "${number} + 1")
endforeach()
string(APPEND text "constexpr Asset kAssets[] = {\n${table}};\n\n}  // namespace\n\n"
  "const Asset* FindAsset(std::string_view path) {\n  for (const Asset& asset : kAssets) {\n"
  "    if (asset.path == path) return &asset;\n  }\n  return nullptr;\n}\n\n}  // namespace warmpath::admin\n")
file(WRITE ${OUT} "${text}")
