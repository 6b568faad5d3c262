use strict;
use warnings;
use lib 'lib';
use Graph;
require './tests/tap.pl';

sub graph { my $graph = Graph->new; $graph->add(split ' ') for @_; $graph }
sub order { join ' ', graph(@_)->order }

sub buildorder {
    my ($rules) = @_;
    open(my $in, '>', 'tests/in.txt') or die "tests/in.txt: $!";
    print $in $rules;
    close $in;
    my $output = `perl buildorder < tests/in.txt 2>&1`;
    my $code = $? >> 8;
    unlink 'tests/in.txt';
    return "$output$code";
}

is(order('c b', 'b a'), 'a b c', 'chain');
is(order('d b c', 'b a', 'c a'), 'a b c d', 'diamond');
is(order('b', 'c', 'a'), 'a b c', 'ties in order of names');
is(order('a z'), 'z a', 'only named as a need');
is(scalar(`perl buildorder < examples/site.txt`), "styles\ntemplates\npages\nsite\n", 'command line');
is(buildorder("# one\n\nb: a # two\n"), "a\nb\n0", 'comments and empty lines');
dies(sub { order('lib util', 'util lib') }, qr/^cycle: lib -> util -> lib$/m, 'cycle of two');
dies(sub { order('app y', 'y z', 'z x', 'x y', 'docs', 'm app') }, qr/^cycle: x -> y -> z -> x$/m, 'cycle behind others');
dies(sub { order('a', 'b b') }, qr/^cycle: b -> b$/m, 'target that needs itself');
is(buildorder("app: lib\nlib: util\nutil: lib\ndocs:\n"), "buildorder: cycle: lib -> util -> lib\n2", 'exit code of a cycle');
done_testing();
