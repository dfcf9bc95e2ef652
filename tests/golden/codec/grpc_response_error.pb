
no
mr-1