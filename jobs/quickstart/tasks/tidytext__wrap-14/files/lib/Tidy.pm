package Tidy;

# Wrapping of plain text.

use strict;
use warnings;

# wrap(WIDTH, TEXT): the text in lines of at most WIDTH characters.
sub wrap {
    my ($width, $text) = @_;
    return fill($width, split ' ', $text);
}

# Fills lines with words. A word that is longer than the width stands alone on its line.
sub fill {
    my ($width, @words) = @_;
    my @lines;
    for my $word (@words) {
        if (@lines && length("$lines[-1] $word") <= $width) {
            $lines[-1] .= " $word";
        } else {
            push @lines, $word;
        }
    }
    return join '', map { "$_\n" } @lines;
}

1;
