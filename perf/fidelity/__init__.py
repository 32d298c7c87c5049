"""What int8 costs in answers: edgelm beside its peers on a checkpoint and the rows that it was not trained on."""
