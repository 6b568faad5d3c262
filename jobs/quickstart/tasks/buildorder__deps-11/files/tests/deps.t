use strict;
use warnings;
use lib 'lib';
use Graph;
require './tests/tap.pl';

sub order { my $graph = Graph->new; $graph->add(split ' ') for @_; join ' ', $graph->order }

is(order('c b', 'b a'), 'a b c', 'chain');
is(order('d b c', 'b a', 'c a'), 'a b c d', 'diamond');
is(scalar(`perl buildorder < examples/site.txt`), "styles\ntemplates\npages\nsite\n", 'command line');
done_testing();
