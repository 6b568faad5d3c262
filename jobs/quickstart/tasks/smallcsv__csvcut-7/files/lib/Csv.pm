package Csv;

# Reading and writing of comma-separated values.

use strict;
use warnings;

# parse(TEXT): the rows of a CSV text, each as a reference to its fields.
sub parse {
    my ($text) = @_;
    return map { [fields($_)] } split /\r?\n/, $text;
}

# The fields of one row, without the quotes around them.
sub fields {
    my ($line) = @_;
    my @fields = split /,/, $line, -1;
    s/^"(.*)"$/$1/ for @fields;
    return @fields;
}

# line(FIELDS...): one row as text.
sub line {
    return join(',', @_) . "\n";
}

1;
