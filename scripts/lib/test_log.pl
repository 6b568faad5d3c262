# Reads the log of `cargo test -- --show-output` on standard input and tells what matters of it.
#
# On standard output: cargo's progress and summary lines, and everything about failures. What passing tests printed is
# left out. Into the file COUNTS: passed, failed and skipped tests. Into the file SKIPS: a line for each test that was
# ignored or that printed a line beginning with "skipped" (or a word and "skipped"), with the reason.
#
# Usage: perl test_log.pl COUNTS SKIPS
use strict;
use warnings;

my ($counts_file, $skips_file) = @ARGV;
open(my $skips, '>', $skips_file) or die "$skips_file: $!\n";
$| = 1;

my %total = (passed => 0, failed => 0, ignored => 0);
my ($suite, $test, $in_successes) = ('', '', 0);
my %skipping;

while (my $line = <STDIN>) {
    if ($line =~ /^\s+Running (?:unittests )?(\S+) \(.*?([^\/]+)-[0-9a-f]+\)/) {
        $suite = "$2 $1";
    } elsif ($line =~ /^\s+Doc-tests (\S+)/) {
        $suite = "doctests of $1";
    } elsif ($line =~ /^successes:$/) {
        $in_successes = 1;
    } elsif ($line =~ /^failures:$/) {
        $in_successes = 0;
    } elsif ($line =~ /^---- (.*) stdout ----$/) {
        $test = $1;
    } elsif ($in_successes && $line =~ /^(?:\S+ )?skipped:?\s+(.*)/) {
        print $skips "$suite, $test: $1\n";
        $skipping{"$suite, $test"} = 1;
    } elsif ($line =~ /^test (.*) \.\.\. ignored(?:, (.*))?$/) {
        my $reason = defined $2 ? $2 : 'ignored';
        print $skips "$suite, $1: $reason\n";
    } elsif ($line =~ /^test result: /) {
        $in_successes = 0;
        $total{$2} += $1 while $line =~ /(\d+) (passed|failed|ignored)/g;
    }
    next if $in_successes || $line =~ /^test .* \.\.\. ok$/ || $line =~ /^running \d+ tests?$/ || $line !~ /\S/;
    print $line;
}

# A test that skipped itself has passed for cargo.
my $skipped = $total{ignored} + keys %skipping;
open(my $counts, '>', $counts_file) or die "$counts_file: $!\n";
print $counts join(' ', $total{passed} - keys %skipping, $total{failed}, $skipped), "\n";
