/* Every template, for one type; later ones use what earlier ones define. */
#include "templating.h"
#include "elementary.template.c"
#include "functions.template.c"
#include "lookup.template.c"
#include "activation.template.c"
#include "pointwise.template.c"
#include "strided.template.c"
#include "reduce.template.c"
#include "loss.template.c"
#include "norm.template.c"
#include "tile.template.c"
#include "product.template.c"
#include "matmul.template.c"
#include "cells.template.c"
#include "gates.template.c"
#include "conv.template.c"
#include "pool.template.c"
#include "gather.template.c"
#include "random.template.c"
#include "update.template.c"
#include "peak.template.c"

#undef COLUMNS
#undef MR
#undef NR
