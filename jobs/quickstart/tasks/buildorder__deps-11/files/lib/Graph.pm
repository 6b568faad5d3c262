package Graph;

# A graph of targets and what they need.

use strict;
use warnings;

sub new {
    my ($class) = @_;
    return bless { needs => {} }, $class;
}

# add(TARGET, NEEDS...): TARGET comes after all of NEEDS.
sub add {
    my ($self, $target, @needs) = @_;
    $self->{needs}{$_} ||= {} for $target, @needs;
    $self->{needs}{$target}{$_} = 1 for @needs;
}

# order(): all targets, each after what it needs; where several may come next, the first name does.
sub order {
    my ($self) = @_;
    my %open = map { $_ => { %{ $self->{needs}{$_} } } } keys %{ $self->{needs} };
    my @order;
    while (my ($next) = sort grep { !%{ $open{$_} } } keys %open) {
        push @order, $next;
        delete $open{$next};
        delete $_->{$next} for values %open;
    }
    return @order;
}

1;
