// Plain text tables for terminals. Pure functions.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace warmpath::fleet {

// `text` with every control character and byte beyond ASCII replaced, so that names given by
// engines or clients cannot move the cursor or break the alignment.
std::string PrintableText(std::string_view text);

// One line per row, columns separated by two spaces and padded to their widest cell; columns listed
// in `right` are right-aligned. Rows may be shorter than the first. Cells are made printable.
std::string AlignColumns(const std::vector<std::vector<std::string>>& rows,
                         const std::vector<size_t>& right);

}  // namespace warmpath::fleet
